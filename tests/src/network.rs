//! Hosts, and a network between them that fails on command: see `py/switch.py`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::clock::{Stopwatch, wait_until};
use crate::dialogue::Dialogue;
use crate::environment;
use crate::python::Python;
use crate::zmqd::Zmqd;

/// A network of hosts on this machine; removed with its hosts when dropped.
#[derive(Debug)]
pub struct Network {
    switch: Dialogue,
}

/// A network namespace for processes, with one cable to the switch.
#[derive(Debug)]
pub struct Host {
    address: String,
    number: String,
    pid: String,
}

impl Network {
    /// A network without hosts.
    ///
    /// # Panics
    ///
    /// If networks cannot be made here, with the reason.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        if let Some(reason) = what_is_missing() {
            panic!("did not run: {reason}");
        }
        let mut command = environment::python(&[]);
        command
            .arg("-u")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/py/switch.py"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Self {
            switch: Dialogue::start(&mut command),
        }
    }

    /// New hosts, each of which reaches all others.
    #[track_caller]
    pub fn hosts<const COUNT: usize>(&mut self) -> [Host; COUNT] {
        [(); COUNT].map(|()| {
            let answer = self.ask("host");
            let (pid, address) = answer.split_once(' ').expect("a process and an address");
            let number = address
                .rsplit('.')
                .next()
                .and_then(|last| last.parse().ok());
            let number: u8 = number.expect("an address of IPv4");
            Host {
                address: address.to_owned(),
                number: (number - 1).to_string(),
                pid: pid.to_owned(),
            }
        })
    }

    /// Sets what happens to packets on every link without settings by [`Self::link`].
    #[track_caller]
    pub fn links(&mut self, quality: &str) {
        self.ask(&format!("links {quality}"));
    }

    /// Sets what happens to packets between two hosts, both ways.
    #[track_caller]
    pub fn link(&mut self, one: &Host, other: &Host, quality: &str) {
        self.ask(&format!("link {} {} {quality}", one.number, other.number));
    }

    /// From now on all packets between two hosts are lost silently.
    #[track_caller]
    pub fn cut(&mut self, one: &Host, other: &Host) {
        self.link(one, other, "loss=1");
    }

    /// Packets between two hosts pass again, without loss or delay.
    #[track_caller]
    pub fn heal(&mut self, one: &Host, other: &Host) {
        self.link(one, other, "");
    }

    /// Pulls the cable out of a host; its kernel notices.
    #[track_caller]
    pub fn pull(&mut self, host: &Host) {
        self.ask(&format!("pull {}", host.number));
    }

    /// Plugs the cable in again.
    #[track_caller]
    pub fn plug(&mut self, host: &Host) {
        self.ask(&format!("plug {}", host.number));
    }

    /// How many packets were `passed`, `lost`, `doubled` or `overtaking` so far.
    #[track_caller]
    pub fn count(&mut self, what: &str) -> u64 {
        let answer = self.ask(&format!("count {what}"));
        answer.parse().expect("a count is a number")
    }

    /// Waits until so many more packets have passed.
    #[track_caller]
    pub fn wait_traffic(&mut self, packets: u64) {
        let enough = self.count("passed") + packets;
        wait_until(&format!("{packets} packets to pass"), || {
            (self.count("passed") >= enough).then_some(())
        });
    }

    /// Waits until no packet has passed for half a second.
    #[track_caller]
    pub fn wait_silence(&mut self) {
        let (mut passed, mut watch) = (0, Stopwatch::start());
        wait_until("silence", || {
            let now = self.count("passed");
            if now != passed {
                (passed, watch) = (now, Stopwatch::start());
            }
            (watch.elapsed() > Duration::from_millis(500)).then_some(())
        });
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> String {
        const NOTHING: &[&str] = &[];
        self.switch.ask(command, NOTHING);
        self.switch.answer().text()
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// An endpoint of this host whose port is free.
    #[must_use]
    pub fn any(&self) -> String {
        format!("tcp://{}:0", self.address)
    }

    /// An endpoint of this host, where no other process can take the port.
    #[must_use]
    pub fn endpoint(&self, port: u16) -> String {
        format!("tcp://{}:{port}", self.address)
    }

    /// Starts a broker here.
    #[must_use]
    #[track_caller]
    pub fn zmqd(&self, arguments: &[&str]) -> Zmqd {
        // Any peer may come in: the network is the test.
        Zmqd::start_under(&self.wrapper(), &[arguments, &["--insecure"]].concat())
    }

    /// Starts a Python here that knows the endpoints of a broker.
    #[must_use]
    #[track_caller]
    pub fn python(&self, broker: &Zmqd) -> Python {
        let mut python = Python::under(&self.wrapper());
        python.meet(broker);
        python
    }

    /// The command that runs the arguments behind it on this host.
    fn wrapper(&self) -> [&str; 4] {
        ["nsenter", "--net", "--target", &self.pid]
    }
}

/// Why networks cannot be made here, if they cannot.
fn what_is_missing() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find(|line| line.starts_with("Uid:"));
    let is_root = uid.and_then(|line| line.split_whitespace().nth(2)) == Some("0");
    if !is_root {
        return Some("only root may make network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing: the kernel has no taps".to_owned());
    }
    let tools = [("ip", "-V"), ("nsenter", "-V"), ("unshare", "-V")];
    let missing = tools
        .into_iter()
        .find(|(tool, option)| Command::new(tool).arg(option).output().is_err());
    missing.map(|(tool, _)| format!("{tool} is not installed; it is in iproute2 or util-linux"))
}
