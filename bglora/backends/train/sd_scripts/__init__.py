"""kohya's sd-scripts as another program: found, started, listened to, stopped and gone on with.

command.py    the words that start it
readiness.py  whether it can start, and what it knows
guard.py      a process between us and it, so that nothing trains on when we are gone
process.py    starting, hearing and stopping it
console.py    what it says
states.py     what it saved
failures.py   why it ended
result.py     the file that it made
training.py   one LoRA by it
"""
