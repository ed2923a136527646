"""`bglora review`: the project as a page with hands, served on 127.0.0.1 alone.

server      the socket, the address with its token, the end
safety      who may ask: token, Host, Origin, sizes
routes      what can be asked for
looking     the project as it stands, looked at again when it changed
state       that as JSON
thumbnails  small pictures, made once
acts        what a person decides, by the same methods of `Project` as the commands
undo        what was there before an act
running     a run in a process of its own, and what it tells
page        the page
"""
