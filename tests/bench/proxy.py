"""libzmq's own proxy, for comparison: prints its endpoints as zmqd does, and runs until killed.

With the file of a secret key, both sides are CURVE servers, which let in every client.
"""

import sys

import zmq
import zmq.auth

KINDS = {
    "queue": (zmq.ROUTER, zmq.DEALER),
    "forwarder": (zmq.XSUB, zmq.XPUB),
    "streamer": (zmq.PULL, zmq.PUSH),
}


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in KINDS:
        sys.exit(f"usage: proxy.py {'|'.join(KINDS)} [SECRET_FILE]")
    context = zmq.Context()
    sockets = [context.socket(socket_type) for socket_type in KINDS[sys.argv[1]]]
    for side, socket in zip(("frontend", "backend"), sockets):
        for secret_file in sys.argv[2:]:
            socket.curve_server = True
            socket.curve_secretkey = zmq.auth.load_certificate(secret_file)[1]
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.get_string(zmq.LAST_ENDPOINT)
        print(f"zmq.proxy {side} bound {endpoint}", flush=True)
    zmq.proxy(*sockets)


main()
