//! Random configurations.

use std::time::Duration;

use broker::config::SocketName;
use watch::config::{
    AbsentConfig, BacklogConfig, Backoff, Command, Config, ProcessConfig, SignConfig, SilentConfig,
    WatchConfig,
};

/// Random numbers from a seed: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.range(0, from.len() as u64 - 1);
        from[usize::try_from(index).expect("an index")]
    }

    pub(crate) fn time(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.range(from_ms, to_ms))
    }
}

pub(crate) fn name(index: usize) -> String {
    format!("w{index}")
}

fn command(words: &[&str]) -> Command {
    Command(words.iter().map(|word| (*word).to_owned()).collect())
}

/// A watch of any kind. Its commands are words for the world: `fix` helps, `fail` and `hang` do
/// not.
pub(crate) fn watch(random: &mut Random, index: usize, is_calm: bool) -> WatchConfig {
    let own = name(index);
    let is_owned = random.chance(30);
    let sign = match random.range(0, 6) {
        0 => SignConfig::Process(match is_owned {
            true => ProcessConfig::Own,
            false => ProcessConfig::PidFile(own.clone().into()),
        }),
        1 => SignConfig::Absent(AbsentConfig {
            identity: None,
            min_peers: 1,
            proxy: own.clone(),
            side: SocketName::Backend,
            user: None,
        }),
        2 => SignConfig::Silent(SilentConfig {
            identity: None,
            proxy: own.clone(),
            side: Some(SocketName::Frontend),
            topic: random.chance(50).then(|| own.clone()),
        }),
        3 => SignConfig::Stuck {
            proxy: own.clone(),
            side: SocketName::Backend,
        },
        4 => SignConfig::Backlog(backlog(random, &own)),
        _ => SignConfig::Heartbeat {
            kind: None,
            service: Some(own.clone()),
        },
    };
    let mut watch = WatchConfig::new(own.clone(), sign);
    watch.after = random.time(2000, 20_000);
    watch.grace = random.time(0, 15_000);
    watch.confirm = u32::try_from(random.range(1, 4)).expect("small");
    watch.action_timeout = random.time(500, 5000);
    watch.stop_timeout = random.time(0, 3000);
    watch.backoff = Backoff {
        factor: u32::try_from(random.range(1, 3)).expect("small"),
        first: random.time(0, 20_000),
        max: Duration::from_secs(60),
        reset_after: random.time(5000, 60_000),
    };
    watch.max_actions = u32::try_from(random.range(1, 6)).expect("small");
    watch.max_window = random.time(60_000, 600_000);
    if is_owned {
        watch.start = Some(command(&["service", &own]));
        watch.expect = true;
    }
    let helps = if is_calm { 100 } else { 60 };
    for _ in 0..random.range(u64::from(!is_owned), 2) {
        let word = match random.chance(helps) {
            true => "fix",
            false => random.pick(&["fail", "hang", "stubborn", "absent"]),
        };
        watch.actions.push(command(&[word, &own]));
    }
    if random.chance(30) {
        watch.escalate = Some(command(&["page", &own]));
    }
    if !is_calm && index > 0 && random.chance(30) {
        let cause = random.range(0, index as u64 - 1);
        watch.depends = vec![name(usize::try_from(cause).expect("small"))];
    }
    watch
}

/// A bound for a queue, in time, in bytes, or both.
fn backlog(random: &mut Random, proxy: &str) -> BacklogConfig {
    let (age, bytes) = (random.time(500, 10_000), random.range(50, 2000));
    let bounds = random.range(0, 2);
    BacklogConfig {
        age: (bounds != 1).then_some(age),
        bytes: (bounds != 0).then_some(bytes),
        proxy: proxy.to_owned(),
        side: SocketName::Backend,
    }
}

pub(crate) fn config(random: &mut Random, is_calm: bool) -> Config {
    let mut config = Config::default();
    config.watcher.max_actions_per_minute = u32::try_from(random.range(2, 20)).expect("small");
    config.watcher.storm_percent = random.pick(&[50_u32, 50, 50, 80, 100]);
    if is_calm {
        config.watcher.max_actions_per_minute = 1000;
        config.watcher.storm_percent = 100;
    }
    let count = usize::try_from(random.range(1, 7)).expect("small");
    config.watches = (0..count)
        .map(|index| watch(random, index, is_calm))
        .collect();
    config
}
