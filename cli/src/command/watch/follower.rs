//! Follows the broker through its control, on a thread of its own, since the broker may not answer.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use broker::config::Endpoint;
use mio::Waker;
use serde_json::{Value, json};
use watch::limits::PEERS_MAX;

use crate::command::control::{Control, ControlArgs, items};
use crate::command::local::Kind;
use crate::output::Failure;

/// The answers to all questions, in their order.
type Answers = Vec<Result<Value, String>>;

/// The questions with this number.
#[derive(Debug)]
struct Questions {
    generation: u64,
    list: Vec<Value>,
}

/// The answers to the questions with this number; [`None`]: the broker does not answer.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) answers: Option<Answers>,
    pub(super) generation: u64,
}

/// The thread, and whether it is busy.
#[derive(Debug)]
pub(super) struct Follower {
    is_busy: bool,
    looks: Receiver<Look>,
    questions: Sender<Questions>,
}

impl Follower {
    /// Starts the thread, which asks at `endpoint`, or the broker of this user.
    pub(super) fn start(
        mut args: ControlArgs,
        endpoint: Option<Endpoint>,
        waker: Arc<Waker>,
    ) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel::<Questions>();
        let (answered, looks) = mpsc::channel();
        // The watch itself says so, once.
        args.is_quiet = true;
        let thread = thread::Builder::new().name("follower".to_owned());
        thread.spawn(move || {
            let mut control = None;
            for Questions { generation, list } in asked {
                let answers = look(&mut control, &args, endpoint.as_ref(), &list);
                let look = Look {
                    answers,
                    generation,
                };
                if answered.send(look).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            is_busy: false,
            looks,
            questions,
        })
    }

    /// Asks, unless an earlier look is not over.
    pub(super) fn ask(&mut self, generation: u64, list: Vec<Value>) {
        if self.is_busy {
            return;
        }
        self.is_busy = self.questions.send(Questions { generation, list }).is_ok();
    }

    /// The result of the last look.
    pub(super) fn take(&mut self) -> Option<Look> {
        let look = self.looks.try_recv().ok()?;
        self.is_busy = false;
        Some(look)
    }
}

/// Asks all questions, on a new connection if the last one is broken.
fn look(
    control: &mut Option<Control>,
    args: &ControlArgs,
    endpoint: Option<&Endpoint>,
    questions: &[Value],
) -> Option<Answers> {
    if let Some(open) = control
        && let Ok(answers) = ask_all(open, questions)
    {
        return Some(answers);
    }
    *control = None;
    let connected = match endpoint {
        Some(endpoint) => Control::connect(endpoint, args),
        None => Control::of(Kind::Broker, args),
    };
    let answers = connected.and_then(|mut open| {
        let answers = ask_all(&mut open, questions)?;
        *control = Some(open);
        Ok(answers)
    });
    answers
        .inspect_err(|failure| log::debug!("the broker does not answer: {failure:?}"))
        .ok()
}

fn ask_all(control: &mut Control, questions: &[Value]) -> Result<Answers, Failure> {
    questions
        .iter()
        .map(|question| ask_all_pages(control, question))
        .collect()
}

/// Asks one question; the answer to one about peers has all pages, up to [`PEERS_MAX`] peers.
fn ask_all_pages(
    control: &mut Control,
    question: &Value,
) -> Result<Result<Value, String>, Failure> {
    let mut all: Vec<Value> = Vec::new();
    let mut question = question.clone();
    loop {
        let answer = match control.try_ask(&question)? {
            Ok(answer) => answer,
            Err(sentence) => return Ok(Err(sentence)),
        };
        if question["command"] != "peers" {
            return Ok(Ok(answer));
        }
        let page = items(&answer, "peers");
        all.extend_from_slice(page);
        let total = answer["total"].as_u64().unwrap_or_default();
        let is_complete = all.len() as u64 >= total || all.len() >= PEERS_MAX;
        match page.last().filter(|_| !is_complete) {
            Some(last) => question["after"] = last["id"].clone(),
            None => return Ok(Ok(json!({ "peers": all }))),
        }
    }
}
