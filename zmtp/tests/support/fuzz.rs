//! Runs fuzz targets without a fuzzer: on their seeds, and on inputs made from random numbers.
//!
//! A panic in a target is the finding. `SEED=…` in the environment begins with other numbers; a
//! failure prints the seed in use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{env, fs, path::Path};

use crate::random::Random;

/// The body of a fuzz target.
pub(crate) type Target = fn(&[u8]);

/// Runs targets on the files of `fuzz/seeds`, each on those in the folder with its name.
pub(crate) fn replay_seeds(targets: &[(&str, Target)]) {
    // The crate is one or two folders below the workspace.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut seeds = above.map(|folder| folder.join("fuzz/seeds"));
    let seeds = seeds.find(|folder| folder.is_dir());
    let seeds = seeds.expect("the seeds of the workspace");
    for (name, target) in targets {
        let folder = seeds.join(name);
        let mut replayed = 0;
        for entry in fs::read_dir(&folder).expect("a folder of seeds") {
            let path = entry.expect("a directory entry").path();
            let data = fs::read(&path).expect("a readable seed");
            let outcome = catch_unwind(|| target(&data));
            assert!(outcome.is_ok(), "{}", path.display());
            replayed += 1;
        }
        assert!(replayed >= 10, "{replayed} seeds of {name}");
    }
}

/// Runs a target on so many inputs.
pub(crate) fn try_inputs(target: Target, inputs: usize, make: impl Fn(&mut Random) -> Vec<u8>) {
    let seed = env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED=number"));
    let mut random = Random::new(seed);
    for _ in 0..inputs {
        let input = make(&mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(outcome.is_ok(), "SEED={seed}: {}", input.escape_ascii());
    }
}

/// Any byte.
pub(crate) fn byte(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).expect("a byte")
}
