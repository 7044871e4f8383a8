// Answers the requests of tests/src/implementation/process.rs with npm's zeromq.
"use strict";

const zmq = require("zeromq");

const HEARTBEAT_TIMEOUT_MS = 20_000;

const kinds = {
  DEALER: zmq.Dealer,
  PUB: zmq.Publisher,
  PULL: zmq.Pull,
  PUSH: zmq.Push,
  REP: zmq.Reply,
  REQ: zmq.Request,
  ROUTER: zmq.Router,
  SUB: zmq.Subscriber,
  XPUB: zmq.XPublisher,
};

const sockets = [];

const verbs = {
  open(_, heartbeatMs, [kind, identity, endpoint]) {
    const options = { linger: 0 };
    if (identity.length > 0) {
      options.routingId = identity.toString();
    }
    if (heartbeatMs > 0) {
      options.heartbeatInterval = heartbeatMs;
      options.heartbeatTimeout = HEARTBEAT_TIMEOUT_MS;
    }
    const socket = new kinds[kind](options);
    socket.connect(endpoint.toString());
    sockets.push(socket);
    return [];
  },
  subscribe(socket, _, [topic]) {
    socket.subscribe(topic);
    return [];
  },
  cancel(socket, _, [topic]) {
    socket.unsubscribe(topic);
    return [];
  },
  async send(socket, ms, parts) {
    socket.sendTimeout = ms;
    await socket.send(parts);
    return [];
  },
  async receive(socket, ms) {
    socket.receiveTimeout = ms;
    try {
      return await socket.receive();
    } catch (error) {
      if (error.code === "EAGAIN") {
        return null;
      }
      throw error;
    }
  },
};

// The bytes of standard input, in pieces of the size that is asked for.
class Input {
  constructor(stream) {
    this.chunks = stream[Symbol.asyncIterator]();
    this.kept = Buffer.alloc(0);
  }

  async more() {
    const { value, done } = await this.chunks.next();
    return done ? null : value;
  }

  // Without the end of the line; null at the end of the input.
  async line() {
    let end;
    while ((end = this.kept.indexOf("\n")) < 0) {
      const chunk = await this.more();
      if (chunk === null) {
        return null;
      }
      this.kept = Buffer.concat([this.kept, chunk]);
    }
    const line = this.kept.subarray(0, end).toString();
    this.kept = this.kept.subarray(end + 1);
    return line;
  }

  async bytes(length) {
    const chunks = [this.kept];
    let available = this.kept.length;
    while (available < length) {
      const chunk = await this.more();
      if (chunk === null) {
        throw new Error("the input ends in the middle of a request");
      }
      chunks.push(chunk);
      available += chunk.length;
    }
    const all = Buffer.concat(chunks);
    this.kept = all.subarray(length);
    return all.subarray(0, length);
  }
}

function answer(verdict, parts) {
  process.stdout.write([verdict, ...parts.map((part) => part.length)].join(" ") + "\n");
  parts.forEach((part) => process.stdout.write(part));
}

async function main() {
  const input = new Input(process.stdin);
  let line;
  while ((line = await input.line()) !== null) {
    const [verb, socket, number, ...lengths] = line.split(" ");
    const parts = [];
    for (const length of lengths) {
      parts.push(await input.bytes(Number(length)));
    }
    try {
      const message = await verbs[verb](sockets[Number(socket)], Number(number), parts);
      answer(message === null ? "silence" : "ok", message ?? []);
    } catch (error) {
      answer("error", [Buffer.from(error.stack)]);
    }
  }
  process.exit(0);
}

main();
