//! Last values while zmqd does not run: files that have the form of recordings.

use broker::sort;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use broker::config::{Config, ProxyConfig};
use broker::record::{Entry, Origin, ReadError, Reader, RecordConfig, Recorder};
use broker::view::ValueView;
use broker::{Admin, Broker, Handle, ProxyId};
use zmtp::Frames;

use super::serve::counted;

/// The time between two looks at whether values have changed. After a crash of zmqd or of the
/// machine, the values of so long may be missing.
const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// The time between two looks at whether a reload has added a proxy, and their number.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const LOOKS: u32 = 25;

/// Values that a running broker gets at once: messages wait meanwhile.
const GIVEN_BACK_AT_ONCE: usize = 100;

/// A proxy whose values have a file.
#[derive(Debug)]
struct Place {
    id: ProxyId,
    name: String,
    path: PathBuf,
    /// The number of messages that have become values.
    updates: u64,
}

/// Saves values while the broker runs, in a thread of its own once a proxy has a file for them.
pub(super) struct Saver {
    handle: Handle,
    running: Mutex<State>,
}

/// The thread, or what it begins with.
enum State {
    Idle(Files),
    Running {
        /// A value asks for a look at new proxies; dropped to end the thread.
        ask: Sender<()>,
        thread: JoinHandle<Files>,
    },
}

/// What is known about files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Proxies that have got the values of their file.
    restored: Vec<(ProxyId, PathBuf)>,
    /// Files that have the values of a proxy after so many updates.
    saved: Vec<(ProxyId, PathBuf, u64)>,
}

impl Files {
    /// Whether a proxy is to get the values of its file; from now on it has them.
    fn takes(&mut self, place: &Place) -> bool {
        let key = (place.id, place.path.clone());
        let is_new = !self.restored.contains(&key);
        if is_new {
            self.restored.push(key);
        }
        is_new
    }

    fn is_saved(&self, place: &Place) -> bool {
        let key = (place.id, place.path.clone(), place.updates);
        self.saved.contains(&key)
    }

    fn note_saved(&mut self, place: Place) {
        self.saved.retain(|(_, path, _)| *path != place.path);
        self.saved.push((place.id, place.path, place.updates));
    }
}

/// Gives each proxy of a broker that does not run the values of its file, unless it has them.
pub(super) fn restore(broker: &mut Broker, files: &mut Files) {
    let mut admin = broker.admin();
    for place in places(&mut admin) {
        if files.takes(&place)
            && let Some(values) = values_of(&place)
        {
            let taken = admin.restore_values(place.id, &values).unwrap_or(0);
            report_restored(&place, taken);
        }
    }
}

/// The values in the file of a proxy; [`None`] if there is no file, or it cannot be read.
fn values_of(place: &Place) -> Option<Vec<ValueView>> {
    match read(&place.path) {
        Ok(values) => Some(values),
        Err(ReadError::Io(error)) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            let (name, path) = (&place.name, place.path.display());
            log::warn!("{name}: cannot read the last values in {path}: {error}");
            None
        }
    }
}

fn report_restored(place: &Place, taken: usize) {
    log::info!(
        proxy = place.name, count = taken;
        "{}: {} from {}", place.name, counted(taken as u64, "last value"), place.path.display()
    );
}

/// Saves the values of every proxy that has a file and new values.
pub(super) fn save(broker: &mut Broker, saver: &Saver) {
    let mut files = saver.stop();
    restore(broker, &mut files);
    let mut admin = broker.admin();
    for place in places(&mut admin) {
        if files.is_saved(&place) {
            continue;
        }
        let mut next = |after: Option<&[u8]>| admin.last_values(place.id, after).ok();
        report(&place, write(&place, &mut next));
    }
}

impl Saver {
    pub(super) fn new(handle: Handle, files: Files) -> Self {
        Self {
            handle,
            running: Mutex::new(State::Idle(files)),
        }
    }

    /// Starts the thread, if it does not run and a proxy of this configuration has a file. If it
    /// runs, it looks for proxies that a reload with this configuration adds.
    pub(super) fn start_for(&self, config: &Config) {
        let cache = |proxy: &ProxyConfig| proxy.cache.as_ref().is_some_and(|it| it.path.is_some());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Running { ask, .. } = &*running {
            // Without the thread, the values are restored and saved at the end.
            let _ = ask.send(());
            return;
        }
        if !config.proxies.iter().any(cache) {
            return;
        }
        let State::Idle(files) = std::mem::replace(&mut *running, State::Idle(Files::default()))
        else {
            return;
        };
        let (handle, files) = (self.handle.clone(), Arc::new(Mutex::new(files)));
        let (ask, asked) = mpsc::channel();
        // A reload may be about to add the first of them.
        let _ = ask.send(());
        let thread = thread::Builder::new().name("values".to_owned());
        let own = Arc::clone(&files);
        let take = |files: &Mutex<Files>| {
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *files)
        };
        match thread.spawn(move || save_until(&asked, &handle, take(&own))) {
            Ok(thread) => *running = State::Running { ask, thread },
            Err(error) => {
                *running = State::Idle(take(&files));
                log::warn!("last values are saved at the end only: {error}");
            }
        }
    }

    /// Ends the thread; returns what it knows about files.
    fn stop(&self) -> Files {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *running, State::Idle(Files::default())) {
            State::Idle(files) => files,
            State::Running { ask, thread } => {
                drop(ask);
                // Its panic is on stderr.
                thread.join().unwrap_or_default()
            }
        }
    }
}

/// Saves new values again and again, until the other end of `asked` is dropped. After a value from
/// there it looks for new proxies a few times: a reload takes a moment.
fn save_until(asked: &Receiver<()>, handle: &Handle, mut files: Files) -> Files {
    let (mut looks, mut waited) = (0, Duration::ZERO);
    loop {
        let pause = match looks {
            0 => SAVE_INTERVAL.saturating_sub(waited),
            _ => LOOK_INTERVAL,
        };
        match asked.recv_timeout(pause) {
            Ok(()) => {
                looks = LOOKS;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return files,
            Err(RecvTimeoutError::Timeout) => waited += pause,
        }
        let is_time = waited >= SAVE_INTERVAL;
        if is_time {
            waited = Duration::ZERO;
        }
        looks = looks.saturating_sub(1);
        let Some(places) = handle.call(places) else {
            return files;
        };
        for place in places {
            if files.takes(&place) && give_back(&place, handle).is_none() {
                return files;
            }
            if !is_time || files.is_saved(&place) {
                continue;
            }
            let id = place.id;
            let mut next = |after: Option<&[u8]>| {
                let after = after.map(<[u8]>::to_vec);
                let page = handle.call(move |it| it.last_values(id, after.as_deref()));
                page?.ok()
            };
            let result = write(&place, &mut next);
            let is_saved = result.is_ok();
            report(&place, result);
            if is_saved {
                files.note_saved(place);
            }
        }
    }
}

/// Gives a proxy of a running broker the values of its file, some at a time; [`None`] if the broker
/// has stopped.
fn give_back(place: &Place, handle: &Handle) -> Option<()> {
    let Some(values) = values_of(place) else {
        return Some(());
    };
    let (id, mut taken) = (place.id, 0);
    for some in values.chunks(GIVEN_BACK_AT_ONCE) {
        let some = some.to_vec();
        taken += handle.call(move |it| it.restore_values(id, &some).unwrap_or(0))?;
    }
    report_restored(place, taken);
    Some(())
}

/// The proxies whose values have a file.
fn places(admin: &mut Admin<'_>) -> Vec<Place> {
    let proxies = admin.proxies();
    let config = admin.config();
    let places = proxies.into_iter().filter_map(|proxy| {
        let cache = config.proxy(&proxy.name)?.cache.as_ref()?;
        Some(Place {
            id: proxy.id,
            path: cache.path.clone()?,
            updates: proxy.cache?.updates,
            name: proxy.name,
        })
    });
    places.collect()
}

fn report(place: &Place, saved: io::Result<()>) {
    if let Err(error) = saved {
        let (name, path) = (&place.name, place.path.display());
        log::error!("{name}: cannot save the last values to {path}: {error}");
    }
}

/// Asks for the values behind a topic; [`None`] if the broker has stopped.
type NextPage<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<ValueView>> + 'a;

/// Whether values may replace what is at their path: a recording, an empty file, or nothing.
fn check_former(path: &Path) -> io::Result<()> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file: name another path"));
    }
    if metadata.len() == 0 {
        return Ok(());
    }
    match Reader::new(File::open(path)?).read() {
        Ok(_) => Ok(()),
        Err(ReadError::Io(error)) => Err(error),
        Err(error) => Err(io::Error::other(format!(
            "{error}: remove it, or name another file"
        ))),
    }
}

/// Writes all values, page by page, to a file beside the former one, which it then replaces.
fn write(place: &Place, next: &mut NextPage<'_>) -> io::Result<()> {
    check_former(&place.path)?;
    let mut beside = place.path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let mut recorder = Recorder::open(&RecordConfig::new(&beside)).map_err(|it| it.source)?;
    let origin = Origin::of(&place.name);
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = next(after.as_deref()).ok_or(ErrorKind::Interrupted)?;
        let Some(last) = page.last() else { break };
        after = Some(Frames::new(&last.wire).first().to_vec());
        let now = unix_time();
        for value in &page {
            let time = now.saturating_sub(value.age).as_nanos();
            let time_ns = u64::try_from(time).unwrap_or(0);
            recorder.push(time_ns, &origin, &[&value.wire]);
        }
        // A page at a time waits to be written.
        recorder.sync();
    }
    let end = recorder.finish();
    if end.is_failing || end.lost_messages > 0 {
        let _ = fs::remove_file(&beside);
        return Err(io::Error::other("some values could not be written"));
    }
    File::open(&beside)?.sync_all()?;
    fs::rename(&beside, &place.path)
}

/// The values in a file, the oldest first.
fn read(path: &Path) -> Result<Vec<ValueView>, ReadError> {
    let mut reader = Reader::new(File::open(path)?);
    let now = unix_time();
    let mut values = Vec::new();
    while let Some(entry) = reader.read()? {
        if let Entry::Message(message) = entry {
            values.push(ValueView {
                age: now.saturating_sub(Duration::from_nanos(message.time_ns)),
                wire: message.frames.to_vec(),
            });
        }
    }
    sort::by_key(&mut values, |value| std::cmp::Reverse(value.age));
    Ok(values)
}

/// The time since the beginning of 1970.
fn unix_time() -> Duration {
    Duration::from_nanos(crate::capture::time::now_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::config::Config;
    use zmtp::encode::append_message;

    fn value(topic: &str, body: &str, seconds: u64) -> ValueView {
        let mut wire = Vec::new();
        append_message(&mut wire, &[topic, body]);
        ValueView {
            age: Duration::from_secs(seconds),
            wire,
        }
    }

    fn broker(path: &Path) -> Broker {
        let text = format!(
            "[[proxy]]\nkind = 'forwarder'\nfrontend.bind = 'inproc://f'\n\
             backend.bind = 'inproc://b'\n\
             cache = {{ path = '{}', topics = ['a', 'b'], max_age = '1h' }}\n",
            path.display()
        );
        let config = Config::from_toml(&text, "test.toml").expect("legal");
        Broker::bind(&config).expect("nothing is bound")
    }

    /// A file that no other test has.
    fn place(name: &str) -> PathBuf {
        let name = format!("zmqd-values-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        path
    }

    fn values(broker: &mut Broker) -> Vec<ValueView> {
        let mut admin = broker.admin();
        let id = admin.proxies()[0].id;
        admin.last_values(id, None).expect("it is there")
    }

    #[test]
    fn values_and_their_ages_survive_a_restart() {
        let path = place("restart");
        let mut first = broker(&path);
        let mut files = Files::default();
        restore(&mut first, &mut files);
        let mut all: Vec<ValueView> = (0..250)
            .map(|number| value(&format!("a{number:03}"), "x", 1800 - number))
            .collect();
        all.push(value("b", "old", 3000));
        let id = first.admin().proxies()[0].id;
        all.sort_by_key(|value| std::cmp::Reverse(value.age));
        let taken = first.admin().restore_values(id, &all);
        assert_eq!(taken, Ok(251));
        let saver = Saver::new(first.handle(), files);
        save(&mut first, &saver);
        let mut second = broker(&path);
        restore(&mut second, &mut Files::default());
        let view = second.admin().proxies().remove(0);
        assert_eq!(view.cache.map(|cache| cache.values), Some(251));
        let page = values(&mut second);
        assert_eq!(page.len(), 100);
        assert_eq!(Frames::new(&page[99].wire).first(), b"a099");
        let age = page[0].age.as_secs();
        assert!((1799..1860).contains(&age), "{age} seconds");
        let again = second.admin().restore_values(id, &[value("b", "older", 9)]);
        assert_eq!(again, Ok(0), "it has a value");
        let expired = value("a999", "x", 7200);
        let _ = second.admin().restore_values(id, &[expired]);
        let view = second.admin().proxies().remove(0);
        assert_eq!(view.cache.map(|cache| cache.values), Some(251), "too old");
        fs::remove_file(&path).expect("it is there");
    }

    /// As a reload adds it: nothing has read the file.
    #[test]
    fn a_new_proxy_gets_the_values_of_its_file_before_it_writes_there() {
        let path = place("new");
        let of = |names: &[&str]| -> Vec<ValueView> {
            names.iter().map(|name| value(name, "x", 9)).collect()
        };
        for (given, expected) in [(&["a1", "a2"][..], 2), (&["a2", "a3"], 3)] {
            let mut broker = broker(&path);
            let id = broker.admin().proxies()[0].id;
            let taken = broker.admin().restore_values(id, &of(given));
            assert_eq!(taken, Ok(given.len()));
            let saver = Saver::new(broker.handle(), Files::default());
            save(&mut broker, &saver);
            assert_eq!(read(&path).expect("a recording").len(), expected);
        }
        let mut broker = broker(&path);
        let place = places(&mut broker.admin()).remove(0);
        let handle = broker.handle();
        let thread = thread::spawn(move || broker.run());
        assert_eq!(give_back(&place, &handle), Some(()));
        let values = handle.call(move |it| it.last_values(place.id, None));
        assert_eq!(values.and_then(Result::ok).map(|it| it.len()), Some(3));
        handle.stop();
        let ran = thread.join().expect("no panic");
        ran.expect("it runs");
        fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn a_file_that_is_not_a_recording_stays_as_it_is() {
        let path = place("other");
        let mut broker = broker(&path);
        let id = broker.admin().proxies()[0].id;
        let restored = broker.admin().restore_values(id, &[value("a", "x", 1)]);
        assert_eq!(restored, Ok(1));
        for (former, is_kept) in [("something else", true), ("", false)] {
            fs::write(&path, former).expect("it is writable");
            let saver = Saver::new(broker.handle(), Files::default());
            save(&mut broker, &saver);
            let found = fs::read(&path).expect("it is there");
            assert_eq!(found == former.as_bytes(), is_kept, "{former}");
        }
        fs::remove_file(&path).expect("it is there");
        let folder = fs::create_dir(&path);
        folder.expect("nothing is there");
        assert!(check_former(&path).is_err());
        fs::remove_dir(&path).expect("it is there");
    }
}
