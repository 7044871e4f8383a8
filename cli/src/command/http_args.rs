//! The options of the HTTP server, which `run` and every kind of proxy have.

use broker::config::{Config, HttpAddress, HttpConfig, Place, Problem};

use crate::output::Failure;

// The HTTP server.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct HttpArgs {
    /// Serve a dashboard, metrics and health here
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) http: Option<HttpAddress>,
    /// File with the token for commands and other machines
    #[arg(long, value_name = "FILE")]
    pub(crate) http_token_file: Option<String>,
    /// Names of this machine that requests may have in Host
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub(crate) http_host: Vec<String>,
}

impl HttpArgs {
    /// The configuration; its token is not loaded.
    pub(crate) fn config(&self) -> HttpConfig {
        HttpConfig {
            address: self.http,
            hides_samples: false,
            hosts: self.http_host.clone(),
            token: None,
            token_file: self.http_token_file.clone().unwrap_or_default(),
        }
    }

    /// Overrides the configuration.
    pub(crate) fn override_in(&self, config: &mut Config) -> Result<(), Failure> {
        let Self {
            http,
            http_token_file,
            http_host,
        } = self;
        config.http.address = http.or(config.http.address);
        if let Some(file) = http_token_file {
            config.http.token_file.clone_from(file);
        }
        if !http_host.is_empty() {
            config.http.hosts.clone_from(http_host);
        }
        if http.is_none() && http_token_file.is_none() && http_host.is_empty() {
            return Ok(());
        }
        let problems = config.load_keys().err();
        let problems = problems.unwrap_or_else(|| config.problems());
        if problems.is_empty() {
            return Ok(());
        }
        let sentences = problems
            .iter()
            .map(|problem| explain(problem).unwrap_or_else(|| problem.to_string()));
        Err(Failure::Usage(sentences.collect()))
    }
}

/// Names the command-line option that a problem concerns, if it is one of these.
pub(crate) fn explain(problem: &Problem) -> Option<String> {
    let option = match problem.place {
        Place::Http => "http",
        Place::HttpHost(_) => "http-host",
        Place::HttpToken => "http-token-file",
        _ => return None,
    };
    let sentence = problem
        .to_string()
        .replace("http_token_file", "--http-token-file");
    Some(format!("--{option}: {sentence}"))
}
