//! The mechanism of commands that are clients of a broker.

use std::sync::Arc;

use broker::config::{
    Admission, Endpoint, KeyError, curve_clients, plain_client, public_key, read_secret_key,
};
use zmtp::MechanismConfig;
use zmtp::curve::{CurveClient, CurveServer, Entropy, SecretKey};

use crate::output::Failure;

// Keys, or a user name and password; without them the mechanism is NULL.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct SecurityArgs {
    /// CURVE: the server's public key, or the file with it
    #[arg(
        long,
        value_name = "KEY|FILE",
        global = true,
        allow_hyphen_values = true
    )]
    curve_server: Option<String>,
    /// CURVE: the file with the client's secret key [default: new]
    #[arg(long, value_name = "FILE", global = true)]
    curve_secret: Option<String>,
    /// PLAIN: the user name
    #[arg(long, value_name = "NAME", global = true)]
    plain_username: Option<String>,
    /// PLAIN: the file with the password
    #[arg(long, value_name = "FILE", global = true)]
    plain_password_file: Option<String>,
    /// PLAIN: permit the password to pass a network in the clear
    #[arg(long, global = true)]
    insecure: bool,
}

// The clients of a socket that is a CURVE server.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct ServerArgs {
    /// CURVE: be the server, for these clients
    #[arg(
        long,
        value_name = "DIR|FILE|any",
        requires = "curve_secret",
        conflicts_with = "curve_server"
    )]
    curve_clients: Option<String>,
}

impl ServerArgs {
    /// The mechanism for connections to or at these endpoints, and which peers may come in.
    ///
    /// # Errors
    /// As for [`SecurityArgs::mechanism`]; the list of clients cannot be used.
    pub(crate) fn mechanism(
        &self,
        security: &SecurityArgs,
        endpoints: &[&Endpoint],
    ) -> Result<(MechanismConfig, Admission), Failure> {
        let (Some(clients), Some(secret)) = (&self.curve_clients, &security.curve_secret) else {
            return Ok((security.mechanism(endpoints)?, Admission::Any));
        };
        let secret = read_secret_key(secret).map_err(unusable)?;
        let server = MechanismConfig::CurveServer(Arc::new(CurveServer::new(secret)));
        Ok((server, curve_clients(clients).map_err(unusable)?))
    }
}

impl SecurityArgs {
    /// The mechanism for connections to or at these endpoints.
    ///
    /// # Errors
    /// Options are missing or exclude each other, a file cannot be used, or the password would pass
    /// a network in the clear.
    pub(crate) fn mechanism(&self, endpoints: &[&Endpoint]) -> Result<MechanismConfig, Failure> {
        let curve = (self.curve_server.as_deref(), self.curve_secret.as_deref());
        let (user, file) = (&self.plain_username, &self.plain_password_file);
        match (curve, (user.as_deref(), file.as_deref())) {
            ((None, None), (None, None)) => Ok(MechanismConfig::Null),
            ((Some(server), secret), (None, None)) => curve_client(server, secret),
            ((None, None), (Some(user), Some(file))) => {
                let exposed = endpoints.iter().find(|it| it.is_beyond_loopback());
                match exposed.filter(|_| !self.insecure) {
                    Some(endpoint) => Err(Failure::usage(format!(
                        "the password would pass the network of {endpoint} in the clear: use \
                         CURVE, or ipc or loopback, or --insecure"
                    ))),
                    None => {
                        let client = plain_client(user, file).map_err(unusable)?;
                        Ok(MechanismConfig::PlainClient(Arc::new(client)))
                    }
                }
            }
            ((None, Some(_)), (None, None)) => Err(Failure::usage(
                "--curve-secret needs the server's public key: give --curve-server too",
            )),
            ((None, None), (Some(_), None)) => Err(Failure::usage(
                "--plain-username needs a password: give --plain-password-file too",
            )),
            ((None, None), (None, Some(_))) => Err(Failure::usage(
                "--plain-password-file needs a user: give --plain-username too",
            )),
            _ => Err(Failure::usage(
                "a connection has one mechanism: give the options of CURVE or those of PLAIN",
            )),
        }
    }
}

fn curve_client(server: &str, secret: Option<&str>) -> Result<MechanismConfig, Failure> {
    let secret = match secret {
        Some(path) => read_secret_key(path).map_err(unusable)?,
        None => SecretKey::generate(Entropy::SYSTEM)
            .map_err(|error| Failure::Running(error.to_string()))?,
    };
    let server = public_key(server).map_err(unusable)?;
    let client = CurveClient::new(secret, server);
    Ok(MechanismConfig::CurveClient(Arc::new(client)))
}

fn unusable(error: KeyError) -> Failure {
    Failure::usage(error.to_string())
}
