//! pyzmq's asyncio sockets, which drive libzmq in other ways than its plain sockets.

use zmqd_tests::{Python, Zmqd};

/// Starts a Python whose `go` runs a coroutine with a deadline, and whose `open` makes sockets.
fn asynchronous(broker: &Zmqd) -> Python {
    let mut python = Python::beside(broker);
    python.run(
        r#"
        def open(kind, *endpoints, **options):
            return zmq.asyncio.Socket.from_socket(connect(kind, *endpoints, **options))

        def go(coroutine):
            asyncio.run(asyncio.wait_for(coroutine, PATIENCE_MS / 1000))
        "#,
    );
    python
}

#[test]
fn many_requests_at_once() {
    let broker = Zmqd::queue(&[]);
    asynchronous(&broker).run(
        r#"
        async def serve(server):
            while True:
                await server.send(b"answer to " + await server.recv())

        async def ask(client, name):
            for number in range(20):
                question = b"%d of %d" % (number, name)
                await client.send(question)
                assert await client.recv() == b"answer to " + question

        async def main():
            servers = [open(zmq.REP, backend) for _ in range(3)]
            clients = [open(zmq.REQ, frontend) for _ in range(20)]
            serving = [asyncio.create_task(serve(server)) for server in servers]
            await asyncio.gather(*(ask(client, name) for name, client in enumerate(clients)))
            [task.cancel() for task in serving]

        go(main())
        "#,
    );
}

#[test]
fn client_and_server_with_several_replies_per_request() {
    let broker = Zmqd::queue(&[]);
    asynchronous(&broker).run(
        r#"
        async def worker(server):
            while True:
                identity, request = await server.recv_multipart()
                for part in range(int(request) % 5):
                    await asyncio.sleep(0)
                    await server.send_multipart([identity, b"%d of " % part + request])

        async def client(name):
            dealer = open(zmq.DEALER, frontend, identity=name)
            for request in range(30):
                await dealer.send(b"%d" % request)
            wanted = sorted(b"%d of %d" % (p, r) for r in range(30) for p in range(r % 5))
            assert sorted([await dealer.recv() for _ in wanted]) == wanted

        async def main():
            servers = [open(zmq.DEALER, backend) for _ in range(4)]
            working = [asyncio.create_task(worker(server)) for server in servers]
            await asyncio.gather(*(client(b"client %d" % number) for number in range(5)))
            [task.cancel() for task in working]

        go(main())
        "#,
    );
}

#[test]
fn publishers_and_subscribers() {
    let broker = Zmqd::forwarder(&[]);
    asynchronous(&broker).run(
        r#"
        publishers = [connect(zmq.PUB, frontend) for _ in range(3)]
        subscribers = [connect(zmq.SUB, backend, subscribe=b"topic") for _ in range(3)]
        settle(publishers, subscribers)

        async def publish(publisher):
            for number in range(200):
                await publisher.send_multipart([b"topic", b"%d" % number])
                await publisher.send_multipart([b"other", b"%d" % number])

        async def subscribe(subscriber):
            got = [await subscriber.recv_multipart() for _ in range(600)]
            assert sorted(got) == sorted(3 * [[b"topic", b"%d" % number] for number in range(200)])

        async def main():
            asynchronous = zmq.asyncio.Socket.from_socket
            await asyncio.gather(*(publish(asynchronous(socket)) for socket in publishers),
                                 *(subscribe(asynchronous(socket)) for socket in subscribers))

        go(main())
        "#,
    );
}

#[test]
fn sources_and_sinks_with_a_poller() {
    let broker = Zmqd::streamer(&["--set", "sndhwm=10"]);
    asynchronous(&broker).run(
        r#"
        async def push(source, first):
            for number in range(first, first + 500):
                await source.send_multipart([b"%d" % number, bytes(4096)])

        async def main():
            sources = [open(zmq.PUSH, frontend, sndhwm=5) for _ in range(3)]
            sinks = [open(zmq.PULL, backend, rcvhwm=5) for _ in range(3)]
            poller = zmq.asyncio.Poller()
            for sink in sinks:
                poller.register(sink, zmq.POLLIN)
            pushing = asyncio.gather(*(push(s, 500 * n) for n, s in enumerate(sources)))
            numbers = []
            while len(numbers) < 1500:
                for sink, _ in await poller.poll():
                    number, body = await sink.recv_multipart()
                    assert body == bytes(4096)
                    numbers.append(int(number))
            await pushing
            assert sorted(numbers) == list(range(1500))

        go(main())
        "#,
    );
}

#[test]
fn a_cancelled_receive_loses_no_message() {
    let broker = Zmqd::queue(&[]);
    asynchronous(&broker).run(
        r#"
        async def main():
            client = open(zmq.DEALER, frontend)
            await client.send_multipart([b"", b"question"])
            for _ in range(3):
                try:
                    await asyncio.wait_for(client.recv(), 0.02)
                    assert False, "an answer without a server"
                except asyncio.TimeoutError:
                    pass
            server = open(zmq.REP, backend)
            assert await server.recv() == b"question"
            await server.send(b"answer")
            assert await client.recv_multipart() == [b"", b"answer"]

        go(main())
        "#,
    );
}
