//! The table of the document: build, machine, and all figures, with ratios to those of peers.

use dezky_sim::bench_output::{Figure, grouped};

use super::{Results, peers::counterpart};
use crate::document::Provenance;

/// The section of the document.
pub(super) fn table(provenance: &Provenance, results: &Results) -> String {
    let Provenance { date, build, cores } = provenance;
    let ratio = |of_peer: &Figure| {
        let ours = counterpart(&of_peer.name)?;
        let ours = results.figures.iter().find(|figure| figure.name == ours)?;
        Some(ours.value / of_peer.value)
    };
    let mut rows: Vec<[String; 4]> = Vec::new();
    for figure in &results.figures {
        rows.push([
            figure.name.clone(),
            rounded(figure.value),
            figure.unit.clone(),
            ratio(figure).map(precise).unwrap_or_default(),
        ]);
    }
    for peer in &results.unavailable {
        let reason = peer.reason.clone();
        rows.push([
            peer.name.to_owned(),
            "not available".to_owned(),
            reason,
            String::new(),
        ]);
    }
    let rows: Vec<String> = rows
        .iter()
        .map(|cells| format!("| {} |", cells.join(" | ")))
        .collect();
    format!(
        "Measured on {date}, build `{build}`, {cores} cores.\n\n\
         | figure | value | unit | ours to the peer's |\n| --- | ---: | --- | ---: |\n{}",
        rows.join("\n")
    )
}

/// A ratio with two decimals.
fn precise(ratio: f64) -> String {
    format!("{ratio:.2}")
}

/// A value with three significant digits at least: one decimal below 100, none from 100 on.
fn rounded(value: f64) -> String {
    if value.abs() < 99.95 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "figures are positive and far below 2^53"
    )]
    let whole = value.round() as u64;
    grouped(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peers::Unavailable;

    fn figure(name: &str, value: f64, unit: &str) -> Figure {
        Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
        }
    }

    fn provenance() -> Provenance {
        Provenance {
            date: "2026-11-22".to_owned(),
            build: "e4a52aa".to_owned(),
            cores: 2,
        }
    }

    #[test]
    fn the_table_names_date_build_and_cores_and_lists_every_figure() {
        let results = Results {
            figures: vec![
                figure("drain, 200 slots", 5_411.7, "jobs/s"),
                figure("POST /tenants, p50", 71.04, "ms"),
            ],
            ..Results::default()
        };

        let table = table(&provenance(), &results);

        assert_eq!(
            table,
            "Measured on 2026-11-22, build `e4a52aa`, 2 cores.\n\n\
             | figure | value | unit | ours to the peer's |\n\
             | --- | ---: | --- | ---: |\n\
             | drain, 200 slots | 5,412 | jobs/s |  |\n\
             | POST /tenants, p50 | 71 | ms |  |"
        );
    }

    #[test]
    fn a_peer_has_a_ratio_and_a_missing_one_a_reason() {
        let results = Results {
            figures: vec![
                figure("drain, 200 slots", 6_000.0, "jobs/s"),
                figure("graphile-worker: drain, 200 slots", 2_400.0, "jobs/s"),
            ],
            unavailable: vec![Unavailable {
                name: "pg-boss",
                reason: "its stores cannot be started".to_owned(),
            }],
            ..Results::default()
        };

        let table = table(&provenance(), &results);

        assert!(
            table.ends_with(
                "| drain, 200 slots | 6,000 | jobs/s |  |\n\
                 | graphile-worker: drain, 200 slots | 2,400 | jobs/s | 2.50 |\n\
                 | pg-boss | not available | its stores cannot be started |  |"
            ),
            "{table}"
        );
    }

    #[test]
    fn large_values_have_no_decimals_and_small_ones_have_one() {
        let values = [0.0, 0.84, 2.5, 33.0, 99.96, 128.6, 83_778.5];

        assert_eq!(
            values.map(rounded),
            ["0", "0.8", "2.5", "33", "100", "129", "83,779"]
        );
    }
}
