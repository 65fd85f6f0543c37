//! The registry of job kinds: which steps each runs, and which sink they report to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use dezky_shared::{queue::job::JobArgs, upstream::Upstream};
use futures::{FutureExt as _, future::BoxFuture};

use super::{StepContext, StepFailure, StepSink, StepSuccess};

type StepFn =
    Arc<dyn Fn(StepContext) -> BoxFuture<'static, Result<StepSuccess, StepFailure>> + Send + Sync>;

/// A named step of a kind.
#[derive(Clone)]
pub struct StepSpec {
    /// Its name in documents.
    pub name: &'static str,
    /// The upstream it calls.
    pub upstream: Option<Upstream>,
    /// Whether its result is the target's state in that upstream, as opposed to that of a part of the target.
    pub sets_condition: bool,
    /// The function.
    pub run: StepFn,
}

/// The steps of a kind. They are independent of each other and run in parallel.
#[derive(Clone, Default)]
pub struct Steps {
    specs: Vec<StepSpec>,
    sink: Option<Arc<dyn StepSink>>,
}

impl Steps {
    /// An empty list of parallel steps.
    pub fn parallel() -> Self {
        Self::default()
    }

    /// Adds a step that converges `upstream` to the target's desired state. It is named after the upstream.
    #[must_use]
    pub fn upstream<F, R>(self, upstream: Upstream, run: F) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.add(upstream.name(), Some(upstream), true, run)
    }

    /// Adds a step that calls `upstream` for a part of the target. It observes the target's in-doubt writes like any
    /// other, and does not set the target's condition.
    #[must_use]
    pub fn partial<F, R>(self, upstream: Upstream, name: &'static str, run: F) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.add(name, Some(upstream), false, run)
    }

    /// Adds a step that calls no upstream.
    #[must_use]
    pub fn step<F, R>(self, name: &'static str, run: F) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.add(name, None, false, run)
    }

    /// Reports to `sink` instead of the registry's default.
    #[must_use]
    pub fn reporting_to(mut self, sink: impl StepSink + 'static) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }

    fn add<F, R>(
        mut self,
        name: &'static str,
        upstream: Option<Upstream>,
        sets_condition: bool,
        run: F,
    ) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.specs.push(StepSpec {
            name,
            upstream,
            sets_condition,
            run: Arc::new(move |input| run(input).boxed()),
        });
        self
    }
}

/// A registered kind.
#[derive(Clone)]
pub struct JobKind {
    /// Its steps.
    pub steps: Vec<StepSpec>,
    /// The sink its steps report to.
    pub sink: Arc<dyn StepSink>,
}

impl JobKind {
    /// Whether any step calls an upstream.
    pub fn calls_upstreams(&self) -> bool {
        self.steps.iter().any(|step| step.upstream.is_some())
    }
}

/// Every kind of job that this build can run.
#[derive(Clone)]
pub struct Registry {
    kinds: BTreeMap<&'static str, JobKind>,
    default_sink: Arc<dyn StepSink>,
}

impl Registry {
    /// An empty registry whose kinds report to `sink` unless they name another.
    pub fn reporting_to(sink: impl StepSink + 'static) -> Self {
        Self {
            kinds: BTreeMap::new(),
            default_sink: Arc::new(sink),
        }
    }

    /// Registers the steps of kind `A`.
    #[must_use]
    pub fn register<A: JobArgs>(mut self, steps: Steps) -> Self {
        let kind = JobKind {
            steps: steps.specs,
            sink: steps.sink.unwrap_or_else(|| self.default_sink.clone()),
        };
        self.kinds.insert(A::KIND, kind);
        self
    }

    /// The kind of this name.
    pub fn kind(&self, name: &str) -> Option<&JobKind> {
        self.kinds.get(name)
    }

    /// The names of all steps that call `upstream`, of any kind.
    pub(crate) fn steps_using(&self, upstream: Upstream) -> Vec<&'static str> {
        let steps = self.kinds.values().flat_map(|kind| &kind.steps);
        let using = steps.filter(|step| step.upstream == Some(upstream));
        let names: BTreeSet<&str> = using.map(|step| step.name).collect();
        names.into_iter().collect()
    }

    /// The names of all kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }
}
