//! Users of the simulated world, and their passwords.

use crate::random::Random;
use broker::config::Users;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use zmtp::MechanismConfig;
use zmtp::plain::{Password, PasswordHash, PlainClient};

/// The numbers of the users.
const USERS: RangeInclusive<u8> = 2..=4;

/// The mechanism of a peer with the name and the password of this number.
pub(crate) fn client(number: u8) -> MechanismConfig {
    with(number, number)
}

/// The mechanism of a peer that no list lets in: it has the name of a user, and the password of
/// another; or its name is unknown.
pub(crate) fn intruder(random: &mut Random) -> MechanismConfig {
    let name = random.pick(&[2, 3, 4, 77]);
    with(name, name + 1)
}

fn with(name: u8, of: u8) -> MechanismConfig {
    let client = PlainClient::new(user(name).as_bytes(), password(of));
    MechanismConfig::PlainClient(Arc::new(client.expect("both are short")))
}

/// All users.
pub(crate) fn users() -> Arc<Users> {
    static ALL: OnceLock<Arc<Users>> = OnceLock::new();
    let make = || {
        let mut users = Users::default();
        for number in USERS {
            let hash = PasswordHash::new(&password(number));
            users.insert(&*user(number), hash.expect("the system has random bytes"));
        }
        Arc::new(users)
    };
    ALL.get_or_init(make).clone()
}

/// The name of the user with these credentials; computes no hash.
pub(crate) fn name_of(name: &[u8], given: &Password) -> Option<Arc<str>> {
    let mut numbers = USERS;
    let found = numbers.find(|number| user(*number).as_bytes() == name)?;
    (*given == password(found)).then(|| user(found).into())
}

fn user(number: u8) -> String {
    format!("user-{number}")
}

fn password(number: u8) -> Password {
    Password::new(format!("password {number}").as_bytes())
}
