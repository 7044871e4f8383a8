//! What the core logs, kept for the test whose thread it runs on.

use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static FIELDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Collector;

/// Keeps the fields of one line.
#[derive(Default)]
struct Fields(Vec<String>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push(format!("{key}={value}"));
        Ok(())
    }
}

impl Log for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            LINES.with_borrow_mut(|lines| lines.push(line));
            let mut fields = Fields::default();
            let visited = record.key_values().visit(&mut fields);
            visited.expect("it never fails");
            FIELDS.with_borrow_mut(|all| all.push(fields.0.join(" ")));
        }
    }

    fn flush(&self) {}
}

/// From now on the lines of this thread are kept.
pub(crate) fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).expect("it is the only one");
        log::set_max_level(LevelFilter::Info);
    });
    taken();
    taken_fields();
}

/// The fields of each line since the last call.
pub(crate) fn taken_fields() -> Vec<String> {
    FIELDS.take()
}

/// The lines since the last call, each with its level, in front.
pub(crate) fn taken() -> Vec<String> {
    LINES.take()
}
