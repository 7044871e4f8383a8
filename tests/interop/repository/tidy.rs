//! The rules for all files of the repository, as tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

#[test]
fn lines_have_at_most_100_columns() {
    refuse_lines(&["c", "cjs", "md", "py", "rs"], |path, line| {
        // Tables and addresses in prose cannot be wrapped.
        let is_prose = path.extension().is_some_and(|extension| extension == "md");
        let is_exempt = is_prose && (line.starts_with('|') || line.contains("://"));
        let columns = line.chars().count();
        (columns > 100 && !is_exempt).then(|| format!("{columns} columns"))
    });
}

#[test]
fn files_have_at_most_800_lines() {
    let too_long = files(&["c", "cjs", "py", "rs"])
        .into_iter()
        .filter_map(|path| {
            let count = read(&path).lines().count();
            (count > 800).then(|| format!("{}: {count} lines", shown(&path)))
        });
    assert_none(too_long.collect());
}

#[test]
fn no_unfinished_work_is_marked() {
    // In halves, so that the markers are not found here.
    let markers = [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("to", "do!("),
        ("unimple", "mented!("),
        ("db", "g!("),
    ]
    .map(|(half, rest)| format!("{half}{rest}"));
    refuse_lines(&["c", "cjs", "md", "py", "rs", "sh", "toml"], |_, line| {
        let marker = markers
            .iter()
            .find(|marker| line.contains(marker.as_str()))?;
        Some(format!("contains {marker}"))
    });
}

/// Processes are not persons, and nothing lasts without end.
#[test]
fn avoided_words_do_not_occur() {
    // In halves, so that the words are not found here.
    let avoided = [
        ("every", "body"),
        ("for e", "ver"),
        ("no", "body"),
        ("some", "body"),
        ("who", "ever"),
    ]
    .map(|(half, rest)| format!(" {half}{rest} "));
    refuse_lines(&["md", "rs"], |_, line| {
        // Names from elsewhere, such as that of a system's user, are in backticks.
        let own: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let words = own.split(|letter: char| !letter.is_alphabetic());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let text = format!(" {} ", words.join(" ").to_lowercase());
        let found = avoided.iter().find(|word| text.contains(word.as_str()))?;
        Some(format!("contains \"{}\"", found.trim()))
    });
}

#[test]
fn lines_have_no_trailing_blanks() {
    refuse_lines(&["c", "cjs", "md", "py", "rs", "sh", "toml"], |_, line| {
        line.ends_with([' ', '\t'])
            .then(|| "ends in a blank".to_owned())
    });
}

#[test]
fn only_event_loops_name_the_event_library() {
    let name = format!("{}{}", "mi", "o");
    refuse_lines(&["rs"], |path, line| {
        let code = line.split("//").next().unwrap_or_default();
        let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        // The load generator of `zmqd bench` is another program in the same binary.
        let loops = [
            "broker/src/driver/",
            "cli/src/client/",
            "cli/src/command/bench/",
            "cli/src/command/watch/",
            "cli/http/src/",
        ];
        let is_loop = loops.iter().any(|folder| shown(path).starts_with(folder));
        (!is_loop && words.into_iter().any(|word| word == name)).then(|| format!("names {name}"))
    });
}

#[test]
fn every_crate_forbids_unsafe_code() {
    let heads = files(&["rs"])
        .into_iter()
        .filter(|path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"));
    let heads: Vec<PathBuf> = heads.collect();
    assert!(heads.len() >= 4, "only {} crates found", heads.len());
    let without = heads
        .iter()
        .filter(|path| !read(path).contains("#![forbid(unsafe_code)]"));
    assert_none(without.map(|path| shown(path)).collect());
}

#[test]
fn every_file_is_part_of_a_crate() {
    let sources = files(&["rs"]);
    let roots = crate_roots(&sources);
    let mut reached = BTreeSet::new();
    for root in &roots {
        reach(root, &roots, &mut reached);
    }
    let lost = sources.iter().filter(|path| !reached.contains(*path));
    assert_none(lost.map(|path| shown(path)).collect());
}

#[test]
fn links_in_the_documentation_have_targets() {
    refuse_lines(&["md"], |path, line| {
        let mut targets = line.split("](").skip(1);
        let lost = targets.find_map(|rest| {
            let target = rest.split(')').next()?;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path.to_owned(),
                file => path.parent()?.join(file),
            };
            let is_there = target.contains(':')
                || file.exists() && (anchor.is_empty() || anchors(&file).contains(anchor));
            (!is_there).then_some(target)
        });
        Some(format!("{} does not exist", lost?))
    });
}

#[test]
fn the_index_of_the_guide_has_every_page() {
    let guide = root().join("docs/guide");
    let index = read(&guide.join("README.md"));
    let pages = files(&["md"]).into_iter();
    let mut pages = pages.filter(|path| path.starts_with(&guide) && !path.ends_with("README.md"));
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let lost =
        pages.find(|path| !index.contains(&format!("]({})", name(path).unwrap_or_default())));
    assert_eq!(lost, None);
}

/// The names of a page's headings in links.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = read(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let letters = heading.trim_start_matches('#').trim().chars();
        let letters = letters.filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        letters.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn functions_that_the_documentation_names_exist() {
    let code: Vec<String> = files(&["rs"]).iter().map(|path| read(path)).collect();
    let is_there = |text: &str| code.iter().any(|file| file.contains(text));
    let mut dead = Vec::new();
    for path in files(&["md"]) {
        let text = read(&path);
        for name in text.split('`').skip(1).step_by(2) {
            let Some((owner, function)) = split_function(name) else {
                continue;
            };
            let has_owner = ["struct", "enum", "trait", "type"]
                .iter()
                .any(|kind| is_there(&format!("{kind} {owner}")));
            let has_function = ["(", "<"]
                .iter()
                .any(|end| is_there(&format!("fn {function}{end}")));
            if !(has_owner && has_function) {
                dead.push(format!("{}: {name}", shown(&path)));
            }
        }
    }
    assert_none(dead);
}

/// The type and the function, if `name` is of the form `path::Type::function`.
fn split_function(name: &str) -> Option<(&str, &str)> {
    let (path, function) = name.trim_end_matches("()").rsplit_once("::")?;
    let owner = path.rsplit("::").next()?;
    let is_function = function
        .chars()
        .all(|it| it.is_ascii_lowercase() || it == '_');
    let is_type = owner.starts_with(|first: char| first.is_ascii_uppercase());
    (is_function && is_type && owner != "Instant").then_some((owner, function))
}

/// `./ci.sh mutants` takes up to an hour; this finds patches that no longer apply in a moment.
#[test]
fn every_deliberate_fault_applies() {
    let (mut faults, mut objections) = (BTreeSet::new(), Vec::new());
    for path in files(&["patch"]) {
        let text = read(&path);
        let mut lines = text.lines();
        let fault = lines.next().and_then(|line| line.strip_prefix("# "));
        if !fault.is_some_and(|fault| faults.insert(fault.to_owned())) {
            objections.push(format!("{}: no fault of its own in line 1", shown(&path)));
        }
        if !lines.next().is_some_and(|line| line.starts_with("# try: ")) {
            objections.push(format!("{}: no `# try: ` in line 2", shown(&path)));
        }
        let mut git = Command::new("git");
        git.args(["apply", "--check"]).arg(&path);
        let output = git.current_dir(root()).output().expect("git runs");
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            objections.push(format!("{}: {}", shown(&path), error.trim_end()));
        }
    }
    assert_none(objections);
    assert!(faults.len() >= 60, "only {} faults", faults.len());
}

/// The files that Cargo finds by their places, and those that a manifest names.
fn crate_roots(sources: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut roots: BTreeSet<PathBuf> = sources
        .iter()
        .filter(|path| is_found(path))
        .cloned()
        .collect();
    for manifest in files(&["toml"]) {
        let folder = manifest.parent().expect("a file lies in a folder");
        let text = read(&manifest);
        let named = text.lines().filter_map(|line| {
            let name = line.strip_prefix("path = \"")?.strip_suffix('"')?;
            Some(folder.join(name))
        });
        roots.extend(named.filter(|path| sources.contains(path)));
    }
    roots
}

/// Whether Cargo takes a file as the root of a crate by its place.
fn is_found(path: &Path) -> bool {
    let shown = shown(path);
    // Some crates are in the folder of another.
    let inner = ["broker/config", "cli/http", "cli/watch"].into_iter();
    let shown = inner.fold(&shown[..], |it, folder| {
        it.strip_prefix(folder).unwrap_or(it)
    });
    let parts: Vec<&str> = shown.split('/').collect();
    matches!(
        parts[..],
        [_, "src", "lib.rs" | "main.rs"]
            | [_, "src", "bin", _]
            | [_, "build.rs"]
            | [_, "tests" | "benches" | "examples" | "fuzz_targets", _]
            | [_, "tests" | "benches" | "examples", _, "main.rs"]
    )
}

/// Follows the `mod` lines of a file.
fn reach(path: &Path, roots: &BTreeSet<PathBuf>, reached: &mut BTreeSet<PathBuf>) {
    if !reached.insert(path.to_owned()) {
        return;
    }
    let folder = path.parent().expect("a file lies in a folder");
    let stem = path.file_stem().expect("a file has a name");
    let owns_folder = roots.contains(path) || stem == "mod";
    let children = if owns_folder {
        folder.to_owned()
    } else {
        folder.join(stem)
    };
    let text = read(path);
    let mut given = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            given = rest.split('"').next();
        }
        let Some(declaration) = line.strip_suffix(';') else {
            continue;
        };
        let Some((visibility, name)) = declaration.split_once("mod ") else {
            continue;
        };
        if !(visibility.is_empty() || visibility.starts_with("pub")) {
            continue;
        }
        let candidates = match given.take() {
            Some(given) => vec![resolve(&folder.join(given))],
            None => vec![
                children.join(format!("{name}.rs")),
                children.join(name).join("mod.rs"),
            ],
        };
        for candidate in candidates.iter().filter(|candidate| candidate.exists()) {
            reach(candidate, roots, reached);
        }
    }
}

/// The path without `..`.
fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(resolved.pop()),
            part => resolved.push(part),
        }
    }
    resolved
}

/// Fails with all objections to lines of files with these extensions.
#[track_caller]
fn refuse_lines(extensions: &[&str], objection: impl Fn(&Path, &str) -> Option<String>) {
    let mut objections = Vec::new();
    for path in files(extensions) {
        for (line, number) in read(&path).lines().zip(1..) {
            if let Some(objection) = objection(&path, line) {
                objections.push(format!("{}:{number}: {objection}", shown(&path)));
            }
        }
    }
    assert_none(objections);
}

#[track_caller]
fn assert_none(objections: Vec<String>) {
    assert!(
        objections.is_empty(),
        "{} objections:\n{}",
        objections.len(),
        objections.join("\n")
    );
}

/// Every file of the repository with one of these extensions, except built and hidden ones.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .expect("a folder can be read")
            .flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|end| extensions.iter().any(|one| end == *one))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(
        !found.is_empty(),
        "no {extensions:?} under {}",
        root().display()
    );
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path from the top of the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}

pub(super) fn root() -> PathBuf {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    member
        .parent()
        .expect("the member lies in the workspace")
        .to_owned()
}
