//! The parts of `docker-compose.yml` that the tests read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::read;

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct Compose {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) networks: BTreeMap<String, Option<Network>>,
    pub(super) volumes: BTreeMap<String, Value>,
}

/// A service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Service {
    pub(super) image: String,
    pub(super) build: Option<Build>,
    pub(super) profiles: Vec<String>,
    pub(super) restart: String,
    pub(super) command: ListOrText,
    pub(super) environment: Environment,
    pub(super) healthcheck: Option<Healthcheck>,
    pub(super) depends_on: BTreeMap<String, Dependency>,
    pub(super) stop_grace_period: Option<String>,
    pub(super) volumes: Vec<String>,
    pub(super) ports: Vec<String>,
    pub(super) networks: Networks,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) read_only: bool,
    pub(super) cap_drop: Vec<String>,
    pub(super) cap_add: Vec<String>,
    pub(super) security_opt: Vec<String>,
    pub(super) mem_limit: Option<String>,
    pub(super) pids_limit: Option<u32>,
    pub(super) ulimits: BTreeMap<String, Value>,
}

/// Build of an image.
#[derive(Debug, Deserialize)]
pub(super) struct Build {
    pub(super) context: String,
    pub(super) dockerfile: String,
}

/// Health check of a service.
#[derive(Debug, Deserialize)]
pub(super) struct Healthcheck {
    pub(super) test: Vec<String>,
}

/// Condition of a dependency.
#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) condition: String,
}

/// A network.
#[derive(Debug, Deserialize)]
pub(super) struct Network {
    #[serde(default)]
    pub(super) internal: bool,
    pub(super) name: Option<String>,
}

/// Aliases of a service in a network.
#[derive(Debug, Deserialize)]
pub(super) struct Attachment {
    #[serde(default)]
    pub(super) aliases: Vec<String>,
}

/// A command.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ListOrText {
    List(Vec<String>),
    Text(String),
}

/// Variables: passed on from `.env` by name, or set.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Environment {
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

/// Networks of a service.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Networks {
    List(Vec<String>),
    Map(BTreeMap<String, Option<Attachment>>),
}

impl Compose {
    /// Parses the file.
    pub(super) fn open() -> Self {
        serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
    }

    /// Variables that any service passes on by name.
    pub(super) fn passed_on(&self) -> BTreeSet<String> {
        let services = self.services.values();
        services
            .flat_map(|service| service.environment.passed_on())
            .collect()
    }
}

impl Environment {
    /// Variables passed on by name.
    pub(super) fn passed_on(&self) -> BTreeSet<String> {
        match self {
            Self::List(names) => names.iter().cloned().collect(),
            Self::Map(_) => BTreeSet::new(),
        }
    }

    /// Variables with a value.
    pub(super) fn set(&self) -> BTreeMap<String, String> {
        match self {
            Self::List(_) => BTreeMap::new(),
            Self::Map(set) => set.clone(),
        }
    }
}

impl Service {
    /// Directories and files of the host, by their path inside of the container.
    pub(super) fn mounts(&self) -> BTreeMap<&str, &str> {
        let volumes = self.volumes.iter();
        let mounts = volumes.filter_map(|volume| {
            let (source, target) = volume.trim_end_matches(":ro").rsplit_once(':')?;
            source
                .starts_with(['.', '/', '$'])
                .then_some((target, source))
        });
        mounts.collect()
    }
}

impl Networks {
    pub(super) fn names(&self) -> BTreeSet<String> {
        match self {
            Self::List(names) => names.iter().cloned().collect(),
            Self::Map(attached) => attached.keys().cloned().collect(),
        }
    }

    /// Networks in which the service has the alias.
    pub(super) fn with_alias(&self, alias: &str) -> Vec<&str> {
        let Self::Map(attached) = self else {
            return Vec::new();
        };
        let has_alias = |attachment: &Option<Attachment>| {
            attachment
                .iter()
                .any(|attachment| attachment.aliases.iter().any(|name| name == alias))
        };
        let networks = attached.iter();
        networks
            .filter(|(_, attachment)| has_alias(attachment))
            .map(|(network, _)| network.as_str())
            .collect()
    }

    pub(super) fn aliases(&self) -> Vec<String> {
        match self {
            Self::List(_) => Vec::new(),
            Self::Map(attached) => {
                let attachments = attached.values().flatten();
                attachments
                    .flat_map(|attachment| attachment.aliases.clone())
                    .collect()
            }
        }
    }
}

impl ListOrText {
    pub(super) fn words(&self) -> Vec<&str> {
        match self {
            Self::List(words) => words.iter().map(String::as_str).collect(),
            Self::Text(text) => text.split(' ').collect(),
        }
    }
}

impl Default for ListOrText {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Default for Networks {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// Variables that are interpolated: `${NAME}`, with or without a default.
pub(super) fn interpolated() -> BTreeSet<String> {
    interpolations().into_iter().map(|(name, _)| name).collect()
}

/// Variables that have to be set: `${NAME:?error}`.
pub(super) fn required() -> BTreeSet<String> {
    let interpolations = interpolations().into_iter();
    let required = interpolations.filter(|(_, rest)| rest.starts_with(":?"));
    required.map(|(name, _)| name).collect()
}

/// Interpolated variables, with what follows their name.
fn interpolations() -> Vec<(String, String)> {
    let file = read("docker-compose.yml");
    let mut found = Vec::new();
    for line in file.lines().filter(|line| !line.trim().starts_with('#')) {
        for after in line.split("${").skip(1) {
            let end = after.find([':', '}']).unwrap_or(after.len());
            found.push((after[..end].to_owned(), after[end..].to_owned()));
        }
    }
    found
}
