"""An instrument that sends a line of data ten times a second, and hangs after twenty lines."""

import itertools
import json
import socket
import sys
import time

listener = socket.create_server(("localhost", int(sys.argv[1])))
reader, _ = listener.accept()
for number in itertools.count(1):
    if number > 20:
        time.sleep(3600)  # its port answers, its process lives, and no data comes
    reader.send(json.dumps({"type": "poiid", "dat": number}).encode() + b"\n")
    time.sleep(0.1)
