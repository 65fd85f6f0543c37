//! Imports of members: each row exactly once, across crashes.

use std::{collections::BTreeSet, time::Duration};

use bson::{Document, doc, oid::ObjectId};
use dezky_shared::{
    audit::{Actor, ActorKind, Origin},
    billing::Plan,
    id::MemberImportId,
    member::{Alias, Member, MemberSecrets, NewMember},
    member_import::{ImportRow, ImportedPassword, MemberImport, RowOutcome, RowPassword},
    platform::clock,
    queue::{
        args::ImportMembers,
        job::{Job, JobState},
        priority::Priority,
    },
    store::{TransactionError, jobs::NewJob},
    tenant::{Tenant, TenantStatus},
    user::Role,
};
use dezky_worker::jobs;
use futures::{FutureExt as _, TryStreamExt as _};

use crate::{
    harness::{Harness, encryption_keys, until},
    world::World,
};

/// A new member with a mailbox.
fn new(local_part: &str) -> NewMember {
    NewMember {
        email: None,
        local_part: Some(local_part.to_owned()),
        name: format!("Name of {local_part}"),
        role: Role::Member,
        mailbox: true,
        aliases: Vec::new(),
        quota_bytes: None,
    }
}

/// A new member without a mailbox.
fn guest(email: &str) -> NewMember {
    NewMember {
        email: Some(email.to_owned()),
        local_part: None,
        mailbox: false,
        ..new("guest")
    }
}

fn owner() -> Actor {
    Actor {
        id: "owner".to_owned(),
        kind: ActorKind::Tenant,
        ..Actor::system()
    }
}

/// Stores an import with its job, as the API does.
async fn import(harness: &Harness, tenant: &Tenant, members: &[NewMember]) -> (MemberImport, Job) {
    let (ctx, now) = (&harness.context, harness.context.store.now());
    let args = ImportMembers {
        tenant_id: tenant.id,
        import_id: MemberImportId::new(),
    };
    let new = NewJob::new(&args, "owner", now).unwrap();
    let expire_at = clock::later(now, Duration::from_hours(1));
    let import = MemberImport {
        id: args.import_id,
        tenant_id: tenant.id,
        by_owner: true,
        total: i64::try_from(members.len()).unwrap(),
        created: 0,
        exists: 0,
        refused: 0,
        job_id: new.job().id,
        actor: owner(),
        origin: Origin::default(),
        created_at: now,
        finished_at: None,
        expire_at,
    };
    let rows = (1..).zip(members).map(|(n, member)| ImportRow {
        id: ObjectId::new(),
        import_id: import.id,
        n,
        line: n + 1,
        label: String::new(),
        member: Some(member.clone()),
        outcome: RowOutcome::Pending,
        errors: Vec::new(),
        member_id: None,
        password: None,
        password_expires_at: None,
        at: None,
        expire_at,
    });
    let rows: Vec<ImportRow> = rows.collect();
    let accepted: Result<Job, TransactionError<()>> = ctx
        .store
        .transaction(
            (ctx, &new, &import, rows),
            |session, (ctx, new, import, rows)| {
                async move {
                    let job = ctx.jobs.enqueue_new(session, new).await?;
                    ctx.member_imports.insert(session, import, rows).await?;
                    Ok(job)
                }
                .boxed()
            },
        )
        .await;
    let job = accepted.unwrap();
    ctx.ready.notify(std::slice::from_ref(&job)).await;
    (import, job)
}

/// A tenant with an owned primary domain, whose jobs no worker runs.
async fn tenant(harness: &Harness) -> Tenant {
    let tenant = harness.add_tenant("acme", &["acme.test"]).await;
    harness.backfill_domains(tenant.id).await;
    harness.tenant(tenant.id).await
}

async fn rows(harness: &Harness, import: &MemberImport) -> Vec<ImportRow> {
    let imports = &harness.context.member_imports;
    imports.list_rows(import.id, None, 0, 10_000).await.unwrap()
}

/// Outcome of each row, with the code of its error.
async fn outcomes(harness: &Harness, import: &MemberImport) -> Vec<String> {
    let rows = rows(harness, import).await;
    let text = |row: &ImportRow| {
        let codes = row.errors.iter().map(|error| format!(" {}", error.code));
        format!("{}{}", row.outcome.name(), codes.collect::<String>())
    };
    rows.iter().map(text).collect()
}

async fn stored(harness: &Harness, import: &MemberImport) -> MemberImport {
    let imports = &harness.context.member_imports;
    let found = imports.find(import.tenant_id, import.id).await;
    found.unwrap().unwrap()
}

async fn all<T: serde::de::DeserializeOwned + Send + Sync>(
    harness: &Harness,
    collection: &str,
    filter: Document,
) -> Vec<T> {
    let documents = harness.context.store.collection::<T>(collection);
    let found = documents
        .find(filter)
        .sort(doc! { "_id": 1 })
        .await
        .unwrap();
    found.try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_members_sign_in_with_the_passwords_of_the_import() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.harness.backfill_domains(tenant.id).await;

    let (import, job) = import(&world.harness, &tenant, &[new("ada"), new("bob")]).await;
    world.completed(&job).await;
    world.until_idle().await;

    assert_eq!(
        outcomes(&world.harness, &import).await,
        ["created", "created"]
    );
    let passwords: Vec<ImportedPassword> =
        all(&world.harness, "member_import_passwords", doc! {}).await;
    assert_eq!(passwords.len(), 2);
    for stored in passwords {
        let member = world.member(stored.member_id).await;
        let secrets = encryption_keys().decrypt(stored.job_id, &stored.secrets);
        let MemberSecrets { password, .. } = secrets.unwrap();
        assert!(world.signs_in(&member.email, &password));
        assert_eq!(world.opens_mailbox(&member.email, &password).await, 200);
        assert!(world.sees_space(&tenant, &member.email));
        let job = world.harness.job(stored.job_id).await;
        assert_eq!(job.secrets, None, "removed with the end of the job");
        assert_eq!(job.priority, Priority::Bulk);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_created_exists_or_is_refused() {
    let harness = Harness::new().await;
    let tenant = tenant(&harness).await;
    let other = harness.add_tenant("other", &[]).await;
    let elsewhere = import(&harness, &other, &[guest("zoe@work.test")]).await;
    let members = [
        new("ada"),
        new("ada"),
        guest("zoe@work.test"),
        NewMember {
            aliases: vec![Alias {
                local_part: "ada".to_owned(),
                domain: None,
            }],
            ..new("bob")
        },
    ];

    let worker = harness.worker_of("worker", jobs::registry(), 2);
    harness.finished(elsewhere.1.id).await;
    // Its account exists: the other tenant knows the password.
    let account = doc! { "pk": 1_i64, "subject": "zoe", "origin": "created" };
    let members_of = harness.context.store.collection::<Document>("members");
    let linked = doc! { "$set": { "authentik": account }, "$inc": { "revision": 1_i64 } };
    members_of
        .update_one(doc! { "email": "zoe@work.test" }, linked)
        .await
        .unwrap();
    let (first, job) = import(&harness, &tenant, &members).await;
    let job = harness.finished(job.id).await;
    let (second, again) = import(&harness, &tenant, &members[..1]).await;
    harness.finished(again.id).await;
    worker.stop().await;

    assert_eq!(
        outcomes(&harness, &first).await,
        ["created", "exists", "created", "refused address_taken"]
    );
    assert_eq!(outcomes(&harness, &second).await, ["exists"]);
    let rows = rows(&harness, &first).await;
    assert_eq!(rows[0].member_id, rows[1].member_id);
    assert_eq!(rows[0].password, Some(RowPassword::InFile));
    assert_eq!(
        rows[2].password, None,
        "her password is that of another tenant"
    );
    let first = stored(&harness, &first).await;
    assert_eq!((first.created, first.exists, first.refused), (2, 1, 1));
    assert!(first.finished_at.is_some());
    let progress = job.progress.unwrap();
    assert_eq!((progress.done, progress.total), (4, 4));
    let created = doc! { "action": "member.create", "outcome": "accepted", "tenantId": tenant.id };
    let events: Vec<Document> = all(&harness, "audit_events", created).await;
    assert_eq!(events.len(), 2);
    for event in events {
        let actor = event.get_document("actor").unwrap();
        assert_eq!(actor.get_str("id").unwrap(), "owner");
        let after = event.get_document("after").unwrap();
        assert!(after.contains_key("memberImportId"), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_enforced_to_the_last_one() {
    let harness = Harness::new().await;
    let tenant = tenant(&harness).await;
    harness
        .context
        .allowances
        .add_missing(harness.context.store.now())
        .await
        .unwrap();
    let allowances = harness.context.store.collection::<Document>("allowances");
    let limit = doc! { "$set": { "seats": 2, "seatsEnforced": true } };
    let plan = doc! { "_id": Plan::Business };
    allowances.update_one(plan, limit).await.unwrap();

    let (import, job) = import(&harness, &tenant, &["a", "b", "c"].map(new)).await;
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(
        outcomes(&harness, &import).await,
        ["created", "created", "refused no_seats"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_imported_into_a_suspended_tenant_and_not_into_a_terminating_one() {
    let harness = Harness::new().await;
    let tenant = tenant(&harness).await;
    let suspended = |tenant: &mut Tenant| tenant.status = TenantStatus::Suspended;
    harness.change_tenant(tenant.id, suspended).await;
    let (first, job) = import(&harness, &tenant, &[new("ada")]).await;
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    harness.finished(job.id).await;

    let terminating = |tenant: &mut Tenant| tenant.status = TenantStatus::Terminating;
    harness.change_tenant(tenant.id, terminating).await;
    let (second, job) = import(&harness, &tenant, &[new("bob")]).await;
    harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(outcomes(&harness, &first).await, ["created"]);
    assert_eq!(
        outcomes(&harness, &second).await,
        ["refused tenant_terminating"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_is_created_once_across_worker_crashes_and_no_password_is_lost() {
    let mut harness = Harness::new().await;
    harness.times.drain = Duration::from_millis(100);
    let tenant = tenant(&harness).await;
    let members: Vec<NewMember> = (0..200).map(|n| new(&format!("m{n}"))).collect();
    let (import, job) = import(&harness, &tenant, &members).await;

    for part in [10, 60, 110] {
        let crashing = harness.crashable_worker(jobs::registry(), 2);
        until(
            async || stored(&harness, &import).await.created,
            |created| *created >= part,
        )
        .await;
        drop(crashing);
        // Its leases expire.
        let past = clock::earlier(harness.context.store.now(), Duration::from_mins(1));
        let expired = doc! { "$set": { "lease.until": past } };
        let left = doc! { "state": "running" };
        harness.jobs().update_many(left, expired).await.unwrap();
    }
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    let import = stored(&harness, &import).await;
    assert_eq!((import.created, import.exists), (200, 0));
    let members: Vec<Member> = all(&harness, "members", doc! {}).await;
    let logins: BTreeSet<&str> = members.iter().map(|it| it.email.as_str()).collect();
    assert_eq!((members.len(), logins.len()), (200, 200));
    let passwords: Vec<ImportedPassword> = all(&harness, "member_import_passwords", doc! {}).await;
    let owners: BTreeSet<_> = passwords.iter().map(|it| it.member_id).collect();
    assert_eq!(owners, members.iter().map(|it| it.id).collect());
    for stored in &passwords {
        let secrets = encryption_keys().decrypt(stored.job_id, &stored.secrets);
        let MemberSecrets { issued_at, .. } = secrets.unwrap();
        let member = members.iter().find(|it| it.id == stored.member_id);
        assert_eq!(member.unwrap().password_issued_at, Some(issued_at));
    }
    let created = doc! { "action": "member.create", "outcome": "accepted" };
    let events: Vec<Document> = all(&harness, "audit_events", created).await;
    assert_eq!(events.len(), 200);
    let provisioning = doc! { "kind": "provision_member", "parent": job.id };
    let jobs = harness.jobs().count_documents(provisioning).await.unwrap();
    assert_eq!(jobs, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_import_leaves_the_remaining_rows_and_continues_when_requeued() {
    let harness = Harness::new().await;
    let tenant = tenant(&harness).await;
    let members: Vec<NewMember> = (0..60).map(|n| new(&format!("m{n}"))).collect();
    let (import, job) = import(&harness, &tenant, &members).await;
    harness.cancel(job.id).await;
    let left = outcomes(&harness, &import).await;

    harness.requeue(job.id).await.unwrap();
    let worker = harness.worker_of("worker", jobs::registry(), 2);
    let finished = until(
        async || stored(&harness, &import).await,
        |import| import.finished_at.is_some(),
    )
    .await;
    worker.stop().await;

    assert_eq!(left, vec!["pending"; 60]);
    assert_eq!(finished.created, 60);
    assert_ne!(finished.job_id, job.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_in_a_job_a_member_or_an_audit_event() {
    let harness = Harness::new().await;
    let tenant = tenant(&harness).await;
    let (_, job) = import(&harness, &tenant, &[new("ada")]).await;

    let worker = harness.worker_of("worker", jobs::registry(), 2);
    harness.finished(job.id).await;
    worker.stop().await;

    let stored: Vec<ImportedPassword> = all(&harness, "member_import_passwords", doc! {}).await;
    let secrets = encryption_keys().decrypt(stored[0].job_id, &stored[0].secrets);
    let MemberSecrets { password, .. } = secrets.unwrap();
    for collection in [
        "jobs",
        "members",
        "member_imports",
        "member_import_rows",
        "member_import_passwords",
        "audit_events",
    ] {
        let documents: Vec<Document> = all(&harness, collection, doc! {}).await;
        assert!(!documents.is_empty(), "{collection}");
        for document in documents {
            assert!(!document.to_string().contains(&password), "{collection}");
        }
    }
}
