"""libzmq's own proxy, for comparison: prints its endpoints as zmqd does, and runs until killed."""

import sys

import zmq

KINDS = {
    "queue": (zmq.ROUTER, zmq.DEALER),
    "forwarder": (zmq.XSUB, zmq.XPUB),
    "streamer": (zmq.PULL, zmq.PUSH),
}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: proxy.py {'|'.join(KINDS)}")
    context = zmq.Context()
    sockets = [context.socket(socket_type) for socket_type in KINDS[sys.argv[1]]]
    for side, socket in zip(("frontend", "backend"), sockets):
        socket.bind("tcp://127.0.0.1:*")
        endpoint = socket.get_string(zmq.LAST_ENDPOINT)
        print(f"zmq.proxy {side} bound {endpoint}", flush=True)
    zmq.proxy(*sockets)


main()
