//! Scrapes the metrics of the processes, as Prometheus does.

use std::collections::BTreeSet;

use crate::stack::{DEADLINE, Stack};

/// Metrics of one process.
#[derive(Debug)]
pub(crate) struct Scrape(String);

impl Scrape {
    pub(crate) fn parse(text: String) -> Self {
        Self(text)
    }

    /// Names of all series.
    pub(crate) fn series(&self) -> BTreeSet<String> {
        let names = self.samples().map(|(series, _)| name(series).to_owned());
        names.collect()
    }

    /// Names with a description.
    pub(crate) fn described(&self) -> BTreeSet<String> {
        let described = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP "));
        described
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect()
    }

    /// Names with a type.
    pub(crate) fn typed(&self) -> BTreeSet<String> {
        let typed = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        typed
            .filter_map(|line| line.split(' ').next().map(str::to_owned))
            .collect()
    }

    /// Sum of all series of `metric` whose labels contain `label`.
    pub(crate) fn sum(&self, metric: &str, label: &str) -> f64 {
        let samples = self.samples();
        samples
            .filter(|(series, _)| name(series) == metric && series.contains(label))
            .map(|(_, value)| value)
            .sum()
    }

    /// Whether any series of `metric` has all of these labels.
    pub(crate) fn has(&self, metric: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""));
        let labels: Vec<String> = labels.collect();
        self.samples().any(|(series, _)| {
            name(series) == metric && labels.iter().all(|label| series.contains(label))
        })
    }

    fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        let lines = self.0.lines();
        let samples = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series, value.parse().unwrap())
        })
    }
}

fn name(series: &str) -> &str {
    series.split('{').next().unwrap()
}

impl Stack {
    /// Scrapes the api and the worker.
    pub(crate) async fn scrape(&self) -> [Scrape; 2] {
        let [api, worker] = &self.metrics;
        [self.scrape_at(api).await, self.scrape_at(worker).await]
    }

    async fn scrape_at(&self, url: &str) -> Scrape {
        Scrape::parse(self.get(&format!("{url}/metrics")).await.1)
    }

    /// Waits until the worker's `metric` with this label reaches `least`.
    pub(crate) async fn until_measured(&self, metric: &str, label: &str, least: f64) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let [_, worker] = self.scrape().await;
            if worker.sum(metric, label) >= least {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{metric} {label}: {worker:#?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}
