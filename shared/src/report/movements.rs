//! Movements of a month: how the yearly revenue at its start became that at its end.

use serde::{Deserialize, Serialize};

/// Yearly revenue of some tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Number of tenants.
    #[serde(default)]
    pub tenants: i64,
    /// Yearly revenue, in minor units.
    #[serde(default)]
    pub arr_minor: i64,
}

impl Amount {
    fn add(&mut self, arr_minor: i64) {
        self.tenants += 1;
        self.arr_minor = self.arr_minor.saturating_add(arr_minor);
    }
}

/// Change of one tenant in one segment: a currency, or a plan in a currency, of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Yearly amount in the segment at the start; 0 for none.
    pub before: i64,
    /// Yearly amount in the segment at the end; 0 for none.
    pub after: i64,
    /// Whether the tenant paid in another segment at the start or at the end.
    pub is_transfer: bool,
    /// Whether the tenant had paid in an earlier month, in any segment.
    pub has_paid: bool,
}

/// Movements in a segment. Their sum is exactly the difference of end and start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Movements {
    /// At the end of the month before.
    pub start: Amount,
    /// Tenants that never paid before.
    pub new: Amount,
    /// Tenants that paid before, and not at the start.
    pub reactivation: Amount,
    /// Increase of the payments of tenants that paid at the start.
    pub expansion: Amount,
    /// Decrease of the payments of tenants that pay at the end, too.
    pub contraction: Amount,
    /// Tenants that do not pay any more.
    pub churn: Amount,
    /// Tenants that paid in another segment at the start.
    pub transfer_in: Amount,
    /// Tenants that pay in another segment at the end.
    pub transfer_out: Amount,
    /// At the end of the month.
    pub end: Amount,
}

impl Movements {
    /// Counts a tenant.
    pub fn record(&mut self, change: Change) {
        let Change { before, after, .. } = change;
        if before > 0 {
            self.start.add(before);
        }
        if after > 0 {
            self.end.add(after);
        }
        match (before, after) {
            (0, 0) => {}
            (0, _) if change.is_transfer => self.transfer_in.add(after),
            (0, _) if change.has_paid => self.reactivation.add(after),
            (0, _) => self.new.add(after),
            (_, 0) if change.is_transfer => self.transfer_out.add(before),
            (_, 0) => self.churn.add(before),
            _ if after > before => self.expansion.add(after - before),
            _ if after < before => self.contraction.add(before - after),
            _ => {}
        }
    }

    /// Sum of the start and the movements.
    pub fn expected_end(&self) -> i64 {
        let incoming = [
            self.start,
            self.new,
            self.reactivation,
            self.expansion,
            self.transfer_in,
        ];
        let outgoing = [self.contraction, self.churn, self.transfer_out];
        let sum = |amounts: &[Amount]| -> i64 { amounts.iter().map(|it| it.arr_minor).sum() };
        sum(&incoming) - sum(&outgoing)
    }

    /// Share of the tenants at the start that do not pay any more, in basis points.
    pub fn logo_churn(&self) -> Option<i64> {
        share(self.churn.tenants, self.start.tenants)
    }

    /// Share of the revenue at the start that was lost, in basis points.
    pub fn gross_churn(&self) -> Option<i64> {
        let lost = self
            .churn
            .arr_minor
            .saturating_add(self.contraction.arr_minor);
        share(lost, self.start.arr_minor)
    }

    /// Revenue of the tenants at the start as a share of what it was, in basis points (net revenue retention).
    pub fn net_retention(&self) -> Option<i64> {
        let lost = self
            .churn
            .arr_minor
            .saturating_add(self.contraction.arr_minor);
        let kept = self
            .start
            .arr_minor
            .saturating_add(self.expansion.arr_minor)
            - lost;
        share(kept, self.start.arr_minor)
    }
}

/// `part` of `whole` in basis points, rounded half up; `None` of nothing.
pub fn share(part: i64, whole: i64) -> Option<i64> {
    if whole <= 0 {
        return None;
    }
    let (part, whole) = (i128::from(part), i128::from(whole));
    let rounded = (part * 20_000 + whole).div_euclid(2 * whole);
    i64::try_from(rounded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_half_up_and_missing_of_nothing() {
        let amount = |tenants, arr_minor| Amount { tenants, arr_minor };
        let movements = Movements {
            start: amount(3, 100_000),
            expansion: amount(1, 10_000),
            contraction: amount(1, 5_000),
            churn: amount(1, 20_000),
            ..Movements::default()
        };

        assert_eq!(movements.gross_churn(), Some(2_500));
        assert_eq!(movements.net_retention(), Some(8_500));
        assert_eq!(movements.logo_churn(), Some(3_333));
        assert_eq!(share(1, 20_000), Some(1));
        assert_eq!(share(1, 20_001), Some(0));
        assert_eq!(Movements::default().logo_churn(), None);
        assert_eq!(Movements::default().net_retention(), None);
    }
}
