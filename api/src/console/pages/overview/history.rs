//! Backlog of the last 24 hours, as the leading worker sampled it. The page reads the peaks as they are stored: the API has
//! no route for them.

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::{
        backlog_peak::{BacklogPeak, INTERVAL, interval_start},
        job::Queue,
    },
};

use super::super::super::{
    Console,
    failure::Failure,
    sparkline::Sparkline,
    table::{Cell, Table},
};

/// Intervals of a day.
const INTERVALS: u32 = 96;

/// The peaks of the day's intervals.
pub(super) struct History {
    since: DateTime,
    peaks: Vec<BacklogPeak>,
}

impl History {
    pub(super) async fn read(console: &Console) -> Result<Self, Failure> {
        let current = interval_start(console.app.store.now());
        let since = clock::earlier(current, INTERVAL * (INTERVALS - 1));
        let peaks = console.app.db.backlog_peaks.list(since).await?;
        Ok(Self { since, peaks })
    }

    pub(super) fn table(&self) -> Table {
        let due = Queue::ALL.map(|queue| {
            let name = queue.name();
            let number = |peak: &BacklogPeak| peak.due.get(name).copied();
            self.row(format!("due in {name}"), number)
        });
        let discarded = self.row("discarded".to_owned(), |peak| Some(peak.discarded));
        let rows = due.into_iter().chain([discarded]).flatten();
        Table::new(
            "The last 24 hours, peaks of 15 minutes",
            ["Jobs", "Course", "Peak", "Last"],
            rows,
            "The leading worker takes the first sample within a minute.",
        )
    }

    /// The row of a number. `None` if it was never sampled.
    fn row(&self, name: String, number: impl Fn(&BacklogPeak) -> Option<i64>) -> Option<[Cell; 4]> {
        let mut course = vec![None; INTERVALS as usize];
        for peak in &self.peaks {
            if let Some(place) = course.get_mut(self.position(peak.start)) {
                *place = number(peak);
            }
        }
        let known = || course.iter().flatten();
        let (peak, last) = (known().max()?, known().next_back()?);
        let label = format!("Jobs {name} in the last 24 hours; peak {peak}, last {last}");
        Some([
            Cell::text(name),
            Cell::sparkline(Sparkline::new(label, &course)),
            Cell::text(peak.to_string()),
            Cell::text(last.to_string()),
        ])
    }

    /// Number of the interval that starts at this time.
    fn position(&self, start: DateTime) -> usize {
        let since = clock::until(self.since, start);
        let intervals = since.as_secs() / INTERVAL.as_secs();
        usize::try_from(intervals).unwrap_or(usize::MAX)
    }
}
