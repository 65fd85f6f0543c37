//! Reductions of an invoice at Stripe: credit notes, refunds and disputes.
//!
//! Their net amounts are a pure function of their present state, so repetition, order and loss of events do not matter.

use std::collections::BTreeSet;

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::money::net_of_gross;

/// Kind of a reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = InvoiceReductionKind)]
pub enum ReductionKind {
    /// A correction that an operator issued here.
    Correction,
    /// A credit note at Stripe.
    CreditNote,
    /// A refund at Stripe.
    Refund,
    /// A payment that the customer disputes at the bank.
    Dispute,
}

impl ReductionKind {
    /// Whether one with this status, as Stripe names it, reduces the invoice.
    fn counts(self, status: &str) -> bool {
        match self {
            Self::Correction => true,
            Self::CreditNote => status == "issued",
            // One that is pending counts: if it fails, its amount is added again.
            Self::Refund => !["failed", "canceled"].contains(&status),
            // No money is withdrawn for an inquiry, which is a warning.
            Self::Dispute => {
                !["won", "prevented"].contains(&status) && !status.starts_with("warning_")
            }
        }
    }
}

/// Credit note, refund or dispute, as read from Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadReduction {
    /// Kind.
    pub kind: ReductionKind,
    /// Id at Stripe.
    pub source_id: String,
    /// Status, as Stripe names it.
    pub status: String,
    /// Amount in minor units: net of a credit note, else taxes included.
    pub amount_minor: i64,
    /// Refunds that a credit note has made. They count once, as that credit note.
    pub refunds: Vec<String>,
    /// Creation time.
    pub at: DateTime,
}

impl ReadReduction {
    fn counts(&self) -> bool {
        self.kind.counts(&self.status)
    }
}

/// Reduction at Stripe, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StripeReduction {
    /// Kind.
    pub kind: ReductionKind,
    /// Id at Stripe.
    pub source_id: String,
    /// Status, as Stripe names it.
    pub status: String,
    /// Net amount by which it reduces the invoice, in minor units: 0 if it failed, was won, or counts as a credit note.
    pub net_minor: i64,
    /// Creation time.
    pub at: DateTime,
}

/// The reductions of an invoice with these amounts, oldest first.
///
/// The net part of amounts with taxes is taken of their cumulative sum, so those of a whole invoice add up to its net
/// amount.
pub fn reductions_of(
    net_minor: i64,
    total_minor: i64,
    mut read: Vec<ReadReduction>,
) -> Vec<StripeReduction> {
    read.sort_by(|one, other| (one.at, &one.source_id).cmp(&(other.at, &other.source_id)));
    read.dedup_by(|one, other| one.source_id == other.source_id);
    let notes = read.iter().filter(|reduction| reduction.counts());
    let refunded: BTreeSet<String> = notes.flat_map(|note| note.refunds.clone()).collect();
    let mut gross: i64 = 0;
    let mut net_part = |amount: i64| {
        let before = net_of_gross(gross, net_minor, total_minor);
        gross = gross.saturating_add(amount);
        net_of_gross(gross, net_minor, total_minor) - before
    };
    let reduction = |read: ReadReduction| StripeReduction {
        net_minor: if !read.counts() || refunded.contains(&read.source_id) {
            0
        } else if read.kind == ReductionKind::CreditNote {
            read.amount_minor
        } else {
            net_part(read.amount_minor)
        },
        kind: read.kind,
        source_id: read.source_id,
        status: read.status,
        at: read.at,
    };
    read.into_iter().map(reduction).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NET: i64 = 10_000;
    const TOTAL: i64 = 11_900;

    fn read(number: i64, kind: ReductionKind, status: &str, amount: i64) -> ReadReduction {
        ReadReduction {
            kind,
            source_id: format!("re_{number}"),
            status: status.to_owned(),
            amount_minor: amount,
            refunds: Vec::new(),
            at: DateTime::from_millis(number * 1_000),
        }
    }

    fn amounts(read: &[ReadReduction]) -> Vec<i64> {
        let reductions = reductions_of(NET, TOTAL, read.to_vec());
        reductions.iter().map(|it| it.net_minor).collect()
    }

    #[test]
    fn a_reduction_counts_by_its_status_and_once() {
        let refund = |number, status, amount| read(number, ReductionKind::Refund, status, amount);
        let mut note = read(3, ReductionKind::CreditNote, "issued", 500);
        note.source_id = "cn_1".to_owned();
        note.refunds = vec!["re_1".to_owned()];
        let voided = ReadReduction {
            status: "void".to_owned(),
            ..note.clone()
        };
        let dispute = |status| read(2, ReductionKind::Dispute, status, TOTAL);

        for (given, expected) in [
            (vec![refund(1, "succeeded", 1_190)], vec![1_000]),
            (
                vec![refund(1, "succeeded", 1_190), refund(2, "pending", 10_710)],
                vec![1_000, 9_000],
            ),
            (
                vec![refund(1, "succeeded", 1_190), refund(2, "failed", 10_710)],
                vec![1_000, 0],
            ),
            (vec![refund(1, "succeeded", 595), note], vec![0, 500]),
            (vec![refund(1, "succeeded", 595), voided], vec![500, 0]),
            (vec![dispute("needs_response")], vec![NET]),
            (vec![dispute("lost")], vec![NET]),
            (vec![dispute("won")], vec![0]),
            (vec![dispute("warning_needs_response")], vec![0]),
        ] {
            assert_eq!(amounts(&given), expected, "{given:?}");
        }
    }

    /// Refunds of the whole amount, each twice, in any order.
    fn shuffled() -> impl Strategy<Value = (i64, Vec<ReadReduction>)> {
        let parts = prop::collection::vec(1_i64..5_000, 1..12);
        parts.prop_flat_map(|parts| {
            let total: i64 = parts.iter().sum();
            let refund =
                |(amount, number)| read(number, ReductionKind::Refund, "succeeded", amount);
            let refunds: Vec<_> = parts.into_iter().zip(1..).map(refund).collect();
            let twice: Vec<_> = refunds.iter().chain(&refunds).cloned().collect();
            (Just(total), Just(twice).prop_shuffle())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_order_and_repetition_takes_back_exactly_the_net_amount(
            (total, refunds) in shuffled(),
            tax_basis_points in 0_i64..3_000,
        ) {
            let net = net_of_gross(total, 10_000, 10_000 + tax_basis_points);
            let mut reduced = 0;
            for known in 1..=refunds.len() {
                let reductions = reductions_of(net, total, refunds[..known].to_vec());
                let sum: i64 = reductions.iter().map(|it| it.net_minor).sum();
                prop_assert!((reduced..=net).contains(&sum));
                reduced = sum;
            }
            prop_assert_eq!(reduced, net);
        }
    }
}
