//! Changes of a configuration, one of whose proxies a peer of a control ends.

use crate::changes::{endpoint, main_only, named};
use crate::play::{Play, open};
use broker::config::{Attach, SocketName, diff};
use broker::{ChangeError, ChangeId};

const FRONT: SocketName = SocketName::Frontend;

/// A broker with the streamers "main" and "other".
fn main_and_other() -> Play {
    let mut play = main_only();
    play.change(|admin| admin.add_proxy(named("other", "streamer", 11)))
        .expect("legal");
    play
}

impl Play {
    fn terminate(&mut self, name: &str) {
        let id = self.id(name);
        assert_eq!(self.core.admin(self.now).terminate(id), Ok(true));
    }

    /// Begins to listen on another endpoint of a proxy, and no more.
    fn begin_to_listen(&mut self, name: &str) -> ChangeId {
        let id = self.id(name);
        let mut admin = self.core.admin(self.now);
        let begun = admin.attach(id, FRONT, Attach::Bind, endpoint(21));
        begun.expect("it is legal")
    }
}

#[test]
fn a_proxy_that_was_terminated_can_be_removed() {
    let mut play = main_and_other();
    let id = play.id("other");
    play.terminate("other");
    play.actions();
    assert!(play.core.admin(play.now).proxy(id).is_ok());
    play.change(|admin| admin.remove_proxy(id))
        .expect("it is there");
    play.actions();
    assert!(play.core.admin(play.now).proxy(id).is_err());
    play.has_no_trace();
}

#[test]
fn a_change_in_progress_fails_with_its_proxy() {
    for changed in ["main", "other"] {
        let mut play = main_and_other();
        let before = play.core.admin(play.now).config().clone();
        let change = play.begin_to_listen(changed);
        play.terminate("other");
        open(&mut play.core);
        let outcome = play.core.take_outcome(change).expect("it is not lost");
        let Err(ChangeError::ProxyStopping(name)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(name, "other");
        assert_eq!(play.core.admin(play.now).config(), &before);
        play.actions();
        play.has_no_trace();
        let next = play.begin_to_listen("main");
        open(&mut play.core);
        let applied = play.core.take_outcome(next).expect("it is the next");
        assert_eq!(applied.expect("all is bound").bound.len(), 1);
    }
}

#[test]
fn a_change_in_progress_fails_with_the_broker() {
    let mut play = main_and_other();
    let change = play.begin_to_listen("main");
    play.core.handle_stop(play.now);
    let outcome = play.core.take_outcome(change).expect("it is not lost");
    assert!(matches!(outcome, Err(ChangeError::Stopping)), "{outcome:?}");
}

#[test]
fn the_last_proxy_ends_with_the_broker_though_another_was_being_added() {
    let mut play = main_only();
    let mut admin = play.core.admin(play.now);
    let begun = admin.add_proxy(named("other", "streamer", 11));
    assert!(begun.is_ok());
    play.terminate("main");
    play.actions();
    assert!(play.core.is_stopped());
}

/// It stays in the configuration, so that a reload may name it.
#[test]
fn a_proxy_that_has_begun_to_end_opens_nothing() {
    let mut play = main_and_other();
    play.terminate("other");
    let before = play.core.bound();
    let running = play.core.admin(play.now).config().clone();
    let mut next = running.clone();
    for proxy in &mut next.proxies {
        let port = if proxy.name == "main" { 21 } else { 31 };
        proxy.frontend.bind.push(endpoint(port));
        proxy.backend.connect.push(endpoint(port + 1).into());
        proxy.capture.socket.bind.push(endpoint(port + 2));
    }
    let changes = diff(&running, &next);
    let applied = play.change(|admin| admin.apply(&changes)).expect("legal");
    let names: Vec<&str> = applied.bound.iter().map(|it| &it.proxy[..]).collect();
    assert_eq!(names, ["main", "main"]);
    assert_eq!(play.core.bound().len(), before.len() + 2);
    play.actions();
    play.has_no_trace();
}
