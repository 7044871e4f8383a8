"""Reads the lines of an instrument, and tells the watch that it lives and that data flows."""

import socket
import sys
import time

instrument, watch = int(sys.argv[1]), int(sys.argv[2])


def send(text):
    """The whole client: connect, send one object, close, read nothing."""
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect(("localhost", watch))
    client.send(text)
    client.close()


def read_lines():
    reader = socket.create_connection(("localhost", instrument))
    reader.settimeout(0.2)
    while True:
        try:
            line = reader.recv(4096)
            if not line:
                return
            send(line)
        except TimeoutError:
            pass
        send(b'{"type": "heartbeat"}')


while True:
    try:
        read_lines()
    except OSError:
        send(b'{"type": "heartbeat"}')
        time.sleep(0.1)
