use super::*;
use crate::subscription::NewTerms;

fn day(text: &str) -> DateTime {
    DateTime::parse_rfc3339_str(format!("{text}T10:00:00Z")).unwrap()
}

/// A card subscription that was sold on 31 January and is invoiced until this day.
fn sold(through: &str) -> Subscription {
    let terms = NewTerms {
        plan: Plan::Business,
        cycle: Cycle::Monthly,
        seats: 5,
        currency: "DKK".to_owned(),
        price_minor: 49_900,
    };
    Subscription {
        collection_method: CollectionMethod::ChargeAutomatically,
        biller: Biller::Stripe,
        may_recreate: true,
        invoiced_through: Some(day(through)),
        billing_anchor: Some(day("2026-01-31")),
        ..Subscription::new(TenantId::new(), terms, day("2026-01-31"))
    }
}

/// The subscription at Stripe.
fn read(ours: &Subscription, known_status: StripeStatus) -> ReadSubscription {
    ReadSubscription {
        id: "sub_1".to_owned(),
        customer: "cus_1".to_owned(),
        tenant_id: Some(ours.tenant_id),
        subscription_id: Some(ours.id),
        status: format!("{known_status:?}"),
        known_status,
        terms: Some(ours.card_terms()),
        price_id: "price_1".to_owned(),
        item_id: "si_1".to_owned(),
        period: Period {
            start: day("2026-03-12"),
            end: day("2026-04-12"),
        },
        anchor: day("2026-03-12"),
        cancel_at_period_end: false,
        has_own_card: false,
        ended_at: None,
        is_payment_failed: false,
        latest_invoice: None,
        needs_authentication: false,
        has_other_items: false,
    }
}

fn context(now: &str) -> CardContext {
    CardContext {
        tenant: TenantStatus::Active,
        has_card: true,
        now: day(now),
    }
}

fn mirrored(mut ours: Subscription, read: &ReadSubscription, context: CardContext) -> Subscription {
    ours.mirror_card(read, context, false);
    ours
}

#[test]
fn a_status_of_stripe_has_a_standing_and_an_unknown_one_has_none() {
    for (status, known_status) in [
        ("active", Some(StripeStatus::InForce)),
        ("trialing", Some(StripeStatus::InForce)),
        ("past_due", Some(StripeStatus::Unpaid)),
        ("unpaid", Some(StripeStatus::Unpaid)),
        ("paused", Some(StripeStatus::Unpaid)),
        ("incomplete", Some(StripeStatus::Incomplete)),
        ("incomplete_expired", Some(StripeStatus::Expired)),
        ("canceled", Some(StripeStatus::Canceled)),
        ("cancelled", None),
    ] {
        assert_eq!(StripeStatus::of(status), known_status, "{status}");
    }
}

#[test]
fn a_subscription_is_created_once_a_person_asked_for_it_and_there_is_a_card() {
    let now = context("2026-03-12");
    let created = CardAction::Create { anchor: None };
    let action = |change: fn(&mut Subscription), context| {
        let mut ours = sold("2026-01-31");
        change(&mut ours);
        ours.card_action(None, context)
    };

    assert_eq!(action(|_| {}, now), created);
    let without_card = CardContext {
        has_card: false,
        ..now
    };
    assert_eq!(action(|_| {}, without_card), CardAction::Keep);
    let leaving = CardContext {
        tenant: TenantStatus::Terminating,
        ..now
    };
    assert_eq!(action(|_| {}, leaving), CardAction::Keep);
    let reasons: [fn(&mut Subscription); 5] = [
        |ours| ours.may_recreate = false,
        |ours| ours.cancel_at_period_end = true,
        |ours| ours.price_minor = 0,
        |ours| ours.partner_billed = true,
        |ours| ours.collection_method = CollectionMethod::SendInvoice,
    ];
    for change in reasons {
        assert_eq!(action(change, now), CardAction::Keep);
    }
}

#[test]
fn the_first_charged_period_begins_where_the_run_ends() {
    let through = sold("2026-03-31");
    let action = |now| through.card_action(None, context(now));

    let anchored = CardAction::Create {
        anchor: Some(day("2026-03-31")),
    };
    assert_eq!(action("2026-03-12"), anchored);
    // Stripe anchors no period that begins after more than a cycle.
    assert_eq!(action("2026-02-12"), CardAction::Keep);
    assert_eq!(action("2026-03-31"), CardAction::Create { anchor: None });
    let soon = DateTime::from_millis(day("2026-03-31").timestamp_millis() - 30_000);
    let soon = CardContext {
        now: soon,
        ..context("2026-03-31")
    };
    assert_eq!(through.card_action(None, soon), CardAction::Wait);
}

#[test]
fn one_that_differs_is_changed_and_one_that_leaves_ends_with_its_period() {
    let ours = sold("2026-03-12");
    let now = context("2026-03-22");
    let same = read(&ours, StripeStatus::InForce);
    let update = |sets_terms, cancel_at_period_end| CardAction::Update {
        sets_terms,
        cancel_at_period_end,
    };
    assert_eq!(ours.card_action(Some(&same), now), CardAction::Keep);

    let dearer = Subscription {
        plan: Plan::Enterprise,
        price_minor: 99_900,
        ..ours.clone()
    };
    assert_eq!(dearer.card_action(Some(&same), now), update(true, false));
    let edited = ReadSubscription {
        cancel_at_period_end: true,
        ..same.clone()
    };
    assert_eq!(ours.card_action(Some(&edited), now), update(false, false));
    let own_card = ReadSubscription {
        has_own_card: true,
        ..same.clone()
    };
    assert_eq!(ours.card_action(Some(&own_card), now), update(false, false));
    let by_mail = Subscription {
        collection_method: CollectionMethod::SendInvoice,
        ..dearer
    };
    assert_eq!(by_mail.card_action(Some(&same), now), update(false, true));
    let of = |tenant| CardContext { tenant, ..now };
    let terminating = of(TenantStatus::Terminating);
    assert_eq!(
        ours.card_action(Some(&same), terminating),
        update(false, true)
    );
    let gone = of(TenantStatus::Terminated);
    assert_eq!(ours.card_action(Some(&same), gone), CardAction::Cancel);
    // Nothing was paid, so nothing is left to use.
    let unpaid = read(&ours, StripeStatus::Incomplete);
    assert_eq!(by_mail.card_action(Some(&unpaid), now), CardAction::Cancel);
    assert_eq!(
        Subscription {
            price_minor: 1,
            ..ours
        }
        .card_action(Some(&unpaid), now),
        CardAction::Keep
    );
}

#[test]
fn ours_follows_periods_and_payments() {
    let now = context("2026-03-12");
    let ours = sold("2026-01-31");

    let paid = mirrored(ours.clone(), &read(&ours, StripeStatus::InForce), now);
    assert_eq!(paid.status, SubscriptionStatus::Active);
    assert_eq!(paid.invoiced_through, Some(day("2026-04-12")));
    assert_eq!(paid.renews_at, paid.invoiced_through);
    assert_eq!(paid.stripe_subscription_id.as_deref(), Some("sub_1"));
    assert!(!paid.may_recreate);
    let late = mirrored(paid, &read(&ours, StripeStatus::Unpaid), now);
    assert_eq!(late.status, SubscriptionStatus::PastDue);
    // A period that was never paid does not count as invoiced.
    let begun = mirrored(ours.clone(), &read(&ours, StripeStatus::Incomplete), now);
    assert_eq!(begun.status, SubscriptionStatus::PastDue);
    assert_eq!(begun.invoiced_through, ours.invoiced_through);
    let expired = mirrored(begun, &read(&ours, StripeStatus::Expired), now);
    assert!(expired.status.is_live());
    assert_eq!(expired.card_action(None, now), CardAction::Keep);
}

#[test]
fn ours_ends_with_the_one_at_stripe_unless_it_is_billed_on() {
    let now = context("2026-03-20");
    let ours = sold("2026-01-31");
    let active = mirrored(ours.clone(), &read(&ours, StripeStatus::InForce), now);
    let canceled = read(&ours, StripeStatus::Canceled);
    let ended_by = |ours: Subscription, read: &ReadSubscription, context| {
        mirrored(ours, read, context).ended_by
    };

    let by_person = ended_by(active.clone(), &canceled, now);
    assert_eq!(by_person, Some(EndedBy::Stripe));
    let failed = ReadSubscription {
        is_payment_failed: true,
        ..canceled.clone()
    };
    let by_payment = ended_by(active.clone(), &failed, now);
    assert_eq!(by_payment, Some(EndedBy::PaymentFailed));
    let ending = Subscription {
        cancel_at_period_end: true,
        ..active.clone()
    };
    let by_period = ended_by(ending, &canceled, now);
    assert_eq!(by_period, Some(EndedBy::PeriodEnd));
    let mut orphan = active.clone();
    orphan.mirror_card(&canceled, now, true);
    assert_eq!(orphan.ended_by, Some(EndedBy::CustomerDeleted));

    let of = |tenant| CardContext { tenant, ..now };
    let gone = of(TenantStatus::Terminated);
    let by_removal = ended_by(active.clone(), &canceled, gone);
    assert_eq!(by_removal, Some(EndedBy::TenantTerminated));
    // A restore has it created again.
    let leaving = mirrored(active.clone(), &canceled, of(TenantStatus::Terminating));
    assert!(leaving.status.is_live());
    assert_eq!(
        leaving.card_action(Some(&canceled), context("2026-05-01")),
        CardAction::Create { anchor: None }
    );
    // The run goes on where Stripe has ended.
    let by_mail = Subscription {
        collection_method: CollectionMethod::SendInvoice,
        ..active
    };
    let back = mirrored(by_mail, &canceled, now);
    assert_eq!((back.biller, back.status.is_live()), (Biller::Run, true));
    assert_eq!(back.billing_anchor, Some(day("2026-04-12")));
    assert_eq!(back.invoiced_through, back.billing_anchor);
    // Its end is old news by now.
    assert_eq!(mirrored(back.clone(), &canceled, now), back);
}

#[test]
fn nothing_at_stripe_leaves_ours_to_a_person_or_to_the_run() {
    let now = context("2026-03-20");
    let ours = sold("2026-01-31");
    let mut lost = mirrored(ours.clone(), &read(&ours, StripeStatus::InForce), now);
    lost.mirror_no_card(now);
    assert_eq!(lost.status, SubscriptionStatus::PastDue);
    assert_eq!(lost.card_action(None, now), CardAction::Keep);

    let mut by_mail = Subscription {
        collection_method: CollectionMethod::SendInvoice,
        ..ours
    };
    by_mail.mirror_no_card(now);
    assert_eq!(by_mail.biller, Biller::Run);
}

/// Otherwise neither biller would end it.
#[test]
fn one_that_is_to_end_ends_although_stripe_charges_nothing_for_it() {
    let now = context("2026-03-20");
    let ending = |through| Subscription {
        cancel_at_period_end: true,
        ..sold(through)
    };

    let mut waiting = ending("2026-01-31");
    waiting.mirror_no_card(now);
    assert_eq!(waiting.ended_by, Some(EndedBy::PeriodEnd));
    assert_eq!(waiting.cancelled_at, Some(day("2026-01-31")));
    let mut invoiced = ending("2026-03-31");
    invoiced.mirror_no_card(now);
    assert!(invoiced.status.is_live());

    let unpaid = ending("2026-01-31");
    let begun = mirrored(
        unpaid.clone(),
        &read(&unpaid, StripeStatus::Incomplete),
        now,
    );
    for ended in [StripeStatus::Expired, StripeStatus::Canceled] {
        let ended = mirrored(begun.clone(), &read(&unpaid, ended), now);
        assert_eq!(ended.ended_by, Some(EndedBy::PeriodEnd));
    }
}

#[test]
fn a_first_period_that_was_never_paid_is_left_to_the_run() {
    let now = context("2026-03-20");
    let ours = sold("2026-03-12");
    let incomplete = ReadSubscription {
        status: "incomplete".to_owned(),
        ..read(&ours, StripeStatus::Incomplete)
    };
    let begun = mirrored(ours, &incomplete, now);
    let by_mail = Subscription {
        collection_method: CollectionMethod::SendInvoice,
        ..begun
    };

    for ended in [StripeStatus::Expired, StripeStatus::Canceled] {
        let back = mirrored(by_mail.clone(), &read(&by_mail, ended), now);

        assert_eq!(back.biller, Biller::Run);
        assert_eq!(back.invoiced_through, Some(day("2026-03-12")), "{ended:?}");
    }
}

/// A new card while a payment is due allows no second subscription once Stripe gives up.
#[test]
fn one_whose_payments_fail_until_its_end_is_not_created_again() {
    let now = context("2026-03-20");
    let ours = sold("2026-01-31");
    let mut late = mirrored(ours.clone(), &read(&ours, StripeStatus::InForce), now);
    late.may_recreate = true;
    let late = mirrored(late, &read(&ours, StripeStatus::Unpaid), now);
    let failed = ReadSubscription {
        is_payment_failed: true,
        ..read(&ours, StripeStatus::Canceled)
    };

    assert!(!late.may_recreate);
    let ended = mirrored(late, &failed, now);
    assert_eq!(ended.ended_by, Some(EndedBy::PaymentFailed));
}

#[test]
fn one_that_changed_since_it_was_seen_is_not_created() {
    let seen = sold("2026-03-12");
    let changes: [fn(&mut Subscription); 5] = [
        |ours| ours.price_minor = 99_900,
        |ours| ours.cancel_at_period_end = true,
        |ours| ours.partner_billed = true,
        |ours| ours.collection_method = CollectionMethod::SendInvoice,
        |ours| ours.invoiced_through = Some(day("2026-04-12")),
    ];

    let renamed = Subscription {
        seats: 6,
        revision: 7,
        ..seen.clone()
    };
    assert!(renamed.is_charged_as(&seen));
    for change in changes {
        let mut altered = seen.clone();
        change(&mut altered);
        assert!(!altered.is_charged_as(&seen), "{altered:?}");
    }
}

/// The first request was lost, and the second one is refused.
#[test]
fn a_refused_creation_returns_to_the_run_if_it_came_from_there() {
    let sold = sold("2026-03-12");
    let from_run = Subscription {
        biller: Biller::Run,
        ..sold.clone()
    };
    for (ours, biller) in [(from_run, Biller::Run), (sold, Biller::Stripe)] {
        let mut tried = ours.clone();
        for _ in 0..2 {
            tried.begin_card();
            assert_eq!(tried.biller, Biller::Stripe);
        }
        let mut created = tried.clone();

        tried.take_back_card();
        created.mirror_card(
            &read(&ours, StripeStatus::InForce),
            context("2026-03-12"),
            false,
        );
        created.take_back_card();

        assert_eq!(tried.biller, biller);
        assert!(!tried.leaves_run);
        assert_eq!(created.biller, Biller::Stripe);
    }
}

/// They are charged, and no update removes them.
#[test]
fn items_that_were_added_at_stripe_are_noted_and_cause_no_update() {
    let now = context("2026-03-20");
    let ours = sold("2026-03-12");
    let more = ReadSubscription {
        has_other_items: true,
        ..read(&ours, StripeStatus::InForce)
    };

    let noted = mirrored(ours, &more, now);
    assert!(noted.has_other_items);
    assert_eq!(noted.card_action(Some(&more), now), CardAction::Keep);
    let removed = read(&noted, StripeStatus::InForce);
    assert!(!mirrored(noted, &removed, now).has_other_items);
}

#[test]
fn an_imported_subscription_stays_with_stripe() {
    let mut imported = sold("2026-01-31");
    imported.invoiced_through = None;
    imported.billing_anchor = None;
    imported.biller = Biller::Run;
    imported.collection_method = CollectionMethod::Manual;
    let found = read(&imported, StripeStatus::InForce);

    imported.adopt_imported(&found);

    assert_eq!(imported.biller, Biller::Stripe);
    assert!(imported.is_by_card());
}

#[test]
fn equal_terms_have_one_lookup_key() {
    let terms = sold("2026-01-31").card_terms();
    assert_eq!(terms.lookup_key(), "plan_business_monthly_dkk_49900");
}
