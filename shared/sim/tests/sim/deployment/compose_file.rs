//! As much of `docker-compose.yml` as the tests look at.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::read;

/// All of it.
#[derive(Debug, Deserialize)]
pub(super) struct Compose {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) networks: BTreeMap<String, Option<Network>>,
    pub(super) volumes: BTreeMap<String, Value>,
}

/// One service.
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
}

/// What an image of ours is built from.
#[derive(Debug, Deserialize)]
pub(super) struct Build {
    pub(super) context: String,
    pub(super) dockerfile: String,
}

/// How a service is seen to be well.
#[derive(Debug, Deserialize)]
pub(super) struct Healthcheck {
    pub(super) test: Vec<String>,
}

/// What is waited for.
#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) condition: String,
}

/// One network.
#[derive(Debug, Deserialize)]
pub(super) struct Network {
    #[serde(default)]
    pub(super) internal: bool,
}

/// What a service is called in a network.
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

/// Variables: handed on from `.env` by their names, or set.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Environment {
    List(Vec<String>),
    Map(BTreeMap<String, String>),
}

/// The networks of a service.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Networks {
    List(Vec<String>),
    Map(BTreeMap<String, Option<Attachment>>),
}

impl Compose {
    /// Reads it.
    pub(super) fn open() -> Self {
        serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
    }

    /// The variables that some service is handed on by their names.
    pub(super) fn handed_on(&self) -> BTreeSet<String> {
        let services = self.services.values();
        services
            .flat_map(|service| service.environment.handed_on())
            .collect()
    }
}

impl Environment {
    /// The variables handed on by their names.
    pub(super) fn handed_on(&self) -> BTreeSet<String> {
        match self {
            Self::List(names) => names.iter().cloned().collect(),
            Self::Map(_) => BTreeSet::new(),
        }
    }

    /// The variables that are set, with their values.
    pub(super) fn set(&self) -> BTreeMap<String, String> {
        match self {
            Self::List(_) => BTreeMap::new(),
            Self::Map(set) => set.clone(),
        }
    }
}

impl Networks {
    pub(super) fn names(&self) -> BTreeSet<String> {
        match self {
            Self::List(names) => names.iter().cloned().collect(),
            Self::Map(attached) => attached.keys().cloned().collect(),
        }
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

/// The variables whose values are written into it: `${NAME}`, with or without a default.
pub(super) fn interpolated() -> BTreeSet<String> {
    let file = read("docker-compose.yml");
    let mut names = BTreeSet::new();
    for line in file.lines().filter(|line| !line.trim().starts_with('#')) {
        for after in line.split("${").skip(1) {
            let name = after.split([':', '}']).next().unwrap_or_default();
            names.insert(name.to_owned());
        }
    }
    names
}
