"""The script that trains `mini`, the small SDXL-class base model in the package, on a folder of captioned stills.

`python -m bglora.assets.train_mini --stills DIR --out DIR --minutes N` trains U-Net and decoder side by side on one
thread each, and writes a folder in diffusers' layout.
"""
