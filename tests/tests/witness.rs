//! A witness that is not libzmq: the crate `zeromq`, alone and together with pyzmq.

use std::future::Future;

use zeromq::{
    DealerSocket, PubSocket, PullSocket, PushSocket, RepSocket, ReqSocket, Socket, SocketRecv,
    SocketSend, SubSocket, ZmqMessage, ZmqResult,
};
use zmqd_tests::{PATIENCE, Python, Zmqd};

/// Runs to the end, with a deadline.
#[track_caller]
fn go(work: impl Future<Output = ZmqResult<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let in_time = async { tokio::time::timeout(PATIENCE, work).await };
    let result = runtime.expect("a runtime starts").block_on(in_time);
    result
        .expect("the work is done in time")
        .expect("zeromq is content");
}

async fn connect<S: Socket>(endpoint: &str) -> ZmqResult<S> {
    let mut socket = S::new();
    socket.connect(endpoint).await?;
    Ok(socket)
}

/// The last part of a message, as text.
fn text(message: &ZmqMessage) -> String {
    let last = message
        .get(message.len() - 1)
        .expect("a message has a part");
    String::from_utf8_lossy(last).into_owned()
}

#[test]
fn req_and_rep() {
    let broker = Zmqd::queue(&[]);
    go(async {
        let mut server: RepSocket = connect(broker.backend()).await?;
        let mut client: ReqSocket = connect(broker.frontend()).await?;
        for number in 0..100 {
            client.send(format!("question {number}").into()).await?;
            assert_eq!(text(&server.recv().await?), format!("question {number}"));
            server.send(format!("answer {number}").into()).await?;
            assert_eq!(text(&client.recv().await?), format!("answer {number}"));
        }
        Ok(())
    });
}

#[test]
fn req_to_pyzmq() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.run("server = connect(zmq.REP, backend)");
    python.begin("for _ in range(100): server.send(b'answer to ' + server.recv())");
    go(async {
        let mut client: ReqSocket = connect(broker.frontend()).await?;
        for number in 0..100 {
            client.send(format!("{number}").into()).await?;
            assert_eq!(text(&client.recv().await?), format!("answer to {number}"));
        }
        Ok(())
    });
    python.finish();
}

#[test]
fn rep_to_pyzmq() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.begin(
        r#"
        client = connect(zmq.REQ, frontend)
        for number in range(100):
            client.send(b"%d" % number)
            assert client.recv() == b"answer to %d" % number
        "#,
    );
    go(async {
        let mut server: RepSocket = connect(broker.backend()).await?;
        for _ in 0..100 {
            let question = text(&server.recv().await?);
            server.send(format!("answer to {question}").into()).await?;
        }
        Ok(())
    });
    python.finish();
}

#[test]
fn dealers() {
    let broker = Zmqd::queue(&[]);
    go(async {
        let mut worker: DealerSocket = connect(broker.backend()).await?;
        let mut client: DealerSocket = connect(broker.frontend()).await?;
        for number in 0..100 {
            client.send(format!("{number}").into()).await?;
            let request = worker.recv().await?;
            assert_eq!((request.len(), text(&request)), (2, number.to_string()));
            worker.send(request).await?;
            let reply = client.recv().await?;
            assert_eq!((reply.len(), text(&reply)), (1, number.to_string()));
        }
        Ok(())
    });
}

#[test]
fn publisher_and_subscribers() {
    let broker = Zmqd::forwarder(&[]);
    let mut python = Python::beside(&broker);
    python.run("other = connect(zmq.SUB, backend, subscribe=[b'ready', b'topic'])");
    go(async {
        let mut publisher: PubSocket = connect(broker.frontend()).await?;
        let mut subscriber: SubSocket = connect(broker.backend()).await?;
        subscriber.subscribe("topic").await?;
        subscriber.subscribe("ready").await?;
        // Published until it arrives, since a subscription takes its time to the publisher.
        let ready = async {
            loop {
                publisher.send("ready".into()).await?;
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            failed = ready => failed,
            arrived = subscriber.recv() => arrived.map(drop),
        }?;
        for number in 0..100 {
            publisher.send(format!("topic {number}").into()).await?;
            publisher.send(format!("other {number}").into()).await?;
        }
        let mut number = 0;
        while number < 100 {
            let message = text(&subscriber.recv().await?);
            if message != "ready" {
                assert_eq!(message, format!("topic {number}"));
                number += 1;
            }
        }
        Ok(())
    });
    python.run(
        r#"
        while (message := other.recv()) != b"topic 99":
            assert message == b"ready" or message.startswith(b"topic")
        "#,
    );
}

#[test]
fn subscriber_to_pyzmq() {
    let broker = Zmqd::forwarder(&[]);
    let mut python = Python::beside(&broker);
    python.run("publisher = connect(zmq.XPUB, frontend)");
    go(async {
        let mut subscriber: SubSocket = connect(broker.backend()).await?;
        subscriber.subscribe("topic").await?;
        python.run("assert publisher.recv() == b'\\1topic'");
        python.run("[publisher.send_multipart([b'topic', b'%d' % n]) for n in range(100)]");
        for number in 0..100 {
            assert_eq!(text(&subscriber.recv().await?), number.to_string());
        }
        subscriber.unsubscribe("topic").await?;
        python.run("assert publisher.recv() == b'\\0topic'");
        Ok(())
    });
}

#[test]
fn source_and_sink() {
    let broker = Zmqd::streamer(&[]);
    go(async {
        let mut sink: PullSocket = connect(broker.backend()).await?;
        let mut source: PushSocket = connect(broker.frontend()).await?;
        for number in 0..100 {
            source
                .send(number.to_string().repeat(number).into())
                .await?;
        }
        for number in 0..100 {
            assert_eq!(text(&sink.recv().await?), number.to_string().repeat(number));
        }
        Ok(())
    });
}
