"""The package and pyzmq: ``python -m unittest``, with the binary installed or in ``ZMQD_BIN``."""

import gc
import inspect
import os
import tempfile
import unittest

import zmq
import zmq.devices

import zmqd
from zmqd import devices


class Case(unittest.TestCase):
    def setUp(self):
        self.context = zmq.Context()
        self.addCleanup(self.context.term)

    def socket(self, kind, endpoint=None):
        socket = self.context.socket(kind)
        self.addCleanup(socket.close, linger=0)
        socket.rcvtimeo = socket.sndtimeo = 30_000
        if kind == zmq.SUB:
            socket.subscribe(b"")
        if endpoint is not None:
            socket.connect(endpoint)
        return socket


class Brokers(Case):
    def test_a_queue_for_a_block(self):
        with zmqd.queue(options={"frontend.sndhwm": 7, "immediate": True}) as broker:
            worker = self.socket(zmq.REP, broker.backend)
            client = self.socket(zmq.REQ, broker.frontend)
            client.send(b"hello")
            self.assertEqual(worker.recv(), b"hello")
            self.assertTrue(broker.is_running)
        self.assertFalse(broker.is_running)
        self.assertEqual(broker.stop(), 0)
        self.assertIn("stopped after", broker.log)

    def test_the_other_kinds(self):
        with zmqd.streamer() as broker:
            self.socket(zmq.PUSH, broker.frontend).send(b"work")
            self.assertEqual(self.socket(zmq.PULL, broker.backend).recv(), b"work")
        with zmqd.proxy("PULL", "PUB", capture="ipc://*") as broker:
            reader = self.socket(zmq.SUB, broker.backend)
            source = self.socket(zmq.PUSH, broker.frontend)
            while not reader.poll(20):
                source.send(b"news")
            self.assertEqual(reader.recv(), b"news")
            self.assertTrue(broker.capture.startswith("ipc://"))
        with zmqd.proxy("REP") as broker:
            client = self.socket(zmq.REQ, broker.frontend)
            client.send(b"echo")
            self.assertEqual(client.recv(), b"echo")
            self.assertRaises(LookupError, lambda: broker.backend)

    def test_a_side_that_connects(self):
        worker = self.socket(zmq.REP)
        port = worker.bind_to_random_port("tcp://127.0.0.1")
        with zmqd.queue(backend_connect=f"tcp://127.0.0.1:{port}") as broker:
            client = self.socket(zmq.REQ, broker.frontend)
            client.send(b"hello")
            self.assertEqual(worker.recv(), b"hello")
            self.assertNotIn(("queue", "backend"), broker.endpoints)

    def test_a_file_with_two_proxies(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "zmqd.toml")
            with open(path, "w") as file:
                for kind in ("queue", "forwarder"):
                    file.write(f'[[proxy]]\nkind = "{kind}"\n')
                    for side in ("frontend", "backend"):
                        file.write(f'{side}.bind = "tcp://127.0.0.1:*"\n')
            with zmqd.run(path, "--http", "127.0.0.1:0") as broker:
                endpoints = [endpoint for it in broker.endpoints.values() for endpoint in it]
                self.assertEqual(len(set(endpoints)), 4)
                forwarder = broker.endpoint("backend", "forwarder")
                self.assertIn(forwarder, broker.endpoints["forwarder", "backend"])
                self.assertTrue(broker.http.startswith("http://127.0.0.1:"))

    def test_an_error_has_the_words_of_the_broker(self):
        with self.assertRaisesRegex(zmqd.StartError, "insecure"):
            zmqd.queue(frontend="tcp://*:*")
        with self.assertRaisesRegex(zmqd.StartError, "nosuchoption"):
            zmqd.queue(options={"nosuchoption": 1})

    def test_a_broker_ends_with_its_object(self):
        broker = zmqd.queue()
        process = broker._process
        del broker
        gc.collect()
        self.assertIsNotNone(process.poll())


class Devices(Case):
    def test_classes_and_methods_are_those_of_pyzmq(self):
        names = set(zmq.devices.__all__) - {"monitored_queue"}
        self.assertEqual(set(devices.__all__), names)
        for name in names:
            theirs, ours = getattr(zmq.devices, name), getattr(devices, name)
            for method, function in inspect.getmembers(theirs, inspect.isfunction):
                if method.startswith("_") and method != "__init__" or method == "run_device":
                    continue
                with self.subTest(f"{name}.{method}"):
                    parameters = list(inspect.signature(function).parameters)
                    if method.endswith("random_port"):
                        parameters = ["self", "addr", "args", "kwargs"]
                    own = inspect.signature(getattr(ours, method)).parameters
                    self.assertEqual(list(own), parameters)

    def test_a_monitored_queue(self):
        device = devices.ThreadMonitoredQueue(
            zmq.ROUTER, zmq.DEALER, zmq.PUB, b"asked", b"answered"
        )
        ports = [
            bind("tcp://127.0.0.1")
            for bind in (
                device.bind_in_to_random_port,
                device.bind_out_to_random_port,
                device.bind_mon_to_random_port,
            )
        ]
        device.setsockopt_in(zmq.LINGER, 0)
        device.start()
        self.addCleanup(device.stop)
        frontend, backend, monitor = (f"tcp://127.0.0.1:{port}" for port in ports)
        reader = self.socket(zmq.SUB, monitor)
        worker = self.socket(zmq.REP, backend)
        client = self.socket(zmq.REQ, frontend)
        while not reader.poll(20):
            client.send(b"hello")
            worker.send(worker.recv().upper())
            self.assertEqual(client.recv(), b"HELLO")
        self.assertIn(reader.recv_multipart()[0], (b"asked", b"answered"))

    def test_one_socket_answers_itself(self):
        device = devices.ThreadDevice(zmq.QUEUE, zmq.REP, -1)
        port = device.bind_out_to_random_port("tcp://127.0.0.1")
        device.start()
        client = self.socket(zmq.REQ, f"tcp://127.0.0.1:{port}")
        client.send(b"echo")
        self.assertEqual(client.recv(), b"echo")
        self.assertFalse(device.done)
        device.stop()
        self.assertTrue(device.done)

    def test_subscriptions_add_up(self):
        device = devices.ThreadDevice(zmq.FORWARDER, zmq.SUB, zmq.PUB)
        frontend = device.bind_in_to_random_port("tcp://127.0.0.1")
        backend = device.bind_out_to_random_port("tcp://127.0.0.1")
        for topic in (b"a", b"b"):
            device.setsockopt_in(zmq.SUBSCRIBE, topic)
        device.start()
        self.addCleanup(device.stop)
        reader = self.socket(zmq.SUB, f"tcp://127.0.0.1:{backend}")
        source = self.socket(zmq.PUB, f"tcp://127.0.0.1:{frontend}")
        seen = set()
        while seen < {b"a", b"b"}:
            for topic in (b"a", b"b", b"c"):
                source.send(topic)
            while reader.poll(20):
                seen.add(reader.recv())
        self.assertEqual(seen, {b"a", b"b"})

    def test_terminate_on_the_control_ends_the_device(self):
        device = devices.ThreadProxySteerable(zmq.PULL, zmq.PUSH, zmq.PUB, zmq.PAIR)
        device.bind_in_to_random_port("tcp://127.0.0.1")
        device.bind_out_to_random_port("tcp://127.0.0.1")
        port = device.bind_ctrl_to_random_port("tcp://127.0.0.1")
        device.start()
        self.socket(zmq.PAIR, f"tcp://127.0.0.1:{port}").send(b"TERMINATE")
        device.join(30)
        self.assertTrue(device.done)

    def test_a_range_of_ports_that_is_used_up(self):
        device = devices.ThreadDevice(zmq.QUEUE, zmq.PULL, zmq.PUSH)
        port = device.bind_in_to_random_port("tcp://127.0.0.1")
        with self.assertRaises(zmq.ZMQBindError):
            device.bind_out_to_random_port("tcp://127.0.0.1", port, port + 1)


if __name__ == "__main__":
    unittest.main()
