//! A large database: many tenants with a user, a domain, a subscription and audit events each, and many more jobs.
//!
//! The documents are those that an earlier build stored, copied with other keys. The indexes are built at the end, which
//! is faster than to maintain them.

use std::{fs, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    id::{
        AuditEventId, DomainId, InvitationId, JobId, JobOperationId, PartnerId, SnapshotId,
        SubscriptionId, TenantId, UserId,
    },
    platform::clock,
    queue::job::Job,
    store::{
        MongoConfig, Store, StoreError, audit::AuditRepository, dependencies::DependencyRepository,
        domains::DomainRepository, flags::FlagRepository, idempotency::IdempotencyRepository,
        invitations::InvitationRepository, job_operations::JobOperationRepository,
        jobs::JobRepository, partners::PartnerRepository, prices::PriceRepository,
        queues::QueueRepository, schedule_ledger::ScheduleLedger, snapshots::SnapshotRepository,
        subscriptions::SubscriptionRepository, tenants::TenantRepository,
        upstreams::UpstreamRepository, users::UserRepository, workers::WorkerRepository,
    },
};
use dezky_sim::{isolated_stores::FreshStores, workspace};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Tenants, and documents of most other collections.
const TENANTS: usize = 10_000;
/// Jobs.
const JOBS: usize = 100_000;
/// Documents in one insert.
const BATCH: usize = 5_000;

/// The database with its repositories.
pub(super) struct Fixture {
    pub(super) store: Arc<Store>,
    pub(super) audit: AuditRepository,
    pub(super) dependencies: DependencyRepository,
    pub(super) domains: DomainRepository,
    pub(super) flags: FlagRepository,
    pub(super) idempotency: IdempotencyRepository,
    pub(super) invitations: InvitationRepository,
    pub(super) job_operations: JobOperationRepository,
    pub(super) jobs: JobRepository,
    pub(super) partners: PartnerRepository,
    pub(super) prices: PriceRepository,
    pub(super) queues: QueueRepository,
    pub(super) schedule_ledger: ScheduleLedger,
    pub(super) snapshots: SnapshotRepository,
    pub(super) subscriptions: SubscriptionRepository,
    pub(super) tenants: TenantRepository,
    pub(super) upstreams: UpstreamRepository,
    pub(super) users: UserRepository,
    pub(super) workers: WorkerRepository,
    pub(super) now: DateTime,
    /// Tenants, oldest first. Every second one is of the first partner.
    pub(super) tenant_ids: Vec<TenantId>,
    pub(super) user_ids: Vec<UserId>,
    pub(super) domain_ids: Vec<DomainId>,
    pub(super) partner_ids: Vec<PartnerId>,
    /// A fan-out with half of the jobs.
    pub(super) parent: JobId,
    _stores: FreshStores,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let stores = FreshStores::unshared().unwrap();
        let config = MongoConfig {
            uri: stores.mongodb_uri.clone(),
            database: stores.database.clone(),
        };
        let store = Arc::new(Store::connect(&config).await.unwrap());
        let ids = |count| std::iter::repeat_with(TenantId::new).take(count);
        let fixture = Self {
            audit: AuditRepository::new(&store),
            dependencies: DependencyRepository::new(&store),
            domains: DomainRepository::new(&store),
            flags: FlagRepository::new(&store),
            idempotency: IdempotencyRepository::new(&store),
            invitations: InvitationRepository::new(&store),
            job_operations: JobOperationRepository::new(&store),
            jobs: JobRepository::new(&store),
            partners: PartnerRepository::new(&store),
            prices: PriceRepository::new(&store),
            queues: QueueRepository::new(&store),
            schedule_ledger: ScheduleLedger::new(&store),
            snapshots: SnapshotRepository::new(&store),
            subscriptions: SubscriptionRepository::new(&store),
            tenants: TenantRepository::new(&store),
            upstreams: UpstreamRepository::new(&store),
            users: UserRepository::new(&store),
            workers: WorkerRepository::new(&store),
            now: store.now(),
            tenant_ids: ids(TENANTS).collect(),
            user_ids: ids(TENANTS)
                .map(|id| UserId::from_bytes(id.bytes()))
                .collect(),
            domain_ids: ids(TENANTS)
                .map(|id| DomainId::from_bytes(id.bytes()))
                .collect(),
            partner_ids: ids(TENANTS / 10)
                .map(|id| PartnerId::from_bytes(id.bytes()))
                .collect(),
            parent: JobId::new(),
            store,
            _stores: stores,
        };
        fixture.fill().await;
        fixture.ensure_indexes().await.unwrap();
        fixture
    }

    async fn ensure_indexes(&self) -> Result<(), StoreError> {
        futures::try_join!(
            self.audit.ensure_indexes(),
            self.domains.ensure_indexes(),
            self.idempotency.ensure_indexes(),
            self.invitations.ensure_indexes(),
            self.job_operations.ensure_indexes(),
            self.jobs.ensure_indexes(),
            self.partners.ensure_indexes(),
            self.prices.ensure_indexes(),
            self.schedule_ledger.ensure_indexes(),
            self.snapshots.ensure_indexes(),
            self.subscriptions.ensure_indexes(),
            self.tenants.ensure_indexes(),
            self.users.ensure_indexes(),
            self.workers.ensure_indexes(),
        )?;
        Ok(())
    }

    async fn fill(&self) {
        let stored = Templates::read();
        let tenant = |n: usize| self.tenant_ids[n % TENANTS];
        self.insert("tenants", TENANTS, &stored.one("tenants"), |n, document| {
            let status = ["active", "active", "active", "suspended"][n % 4];
            document.extend(doc! {
                "_id": tenant(n), "slug": format!("t{n}"), "domains": [format!("t{n}.test")], "status": status,
                "plan": (["starter", "business"][n % 2]), "authentikGroupId": format!("g{n}"),
                "partnerId": self.partner_ids[if n % 2 == 0 { 0 } else { n / 10 }],
            });
        })
        .await;
        self.insert("users", TENANTS, &stored.one("users"), |n, document| {
            let membership =
                doc! { "tenantId": tenant(n), "role": "owner", "source": "local", "changedAt": self.now };
            document.extend(doc! {
                "_id": self.user_ids[n], "authentikSubjectId": format!("s{n}"),
                "email": format!("u{n}@demo.test"), "memberships": [membership],
                "platformAdmin": n % 1_000 == 999,
            });
            if n < 1_000 {
                let partner = self.partner_ids[n / 10];
                document.extend(doc! { "partnerId": partner, "partnerRole": "manager" });
            }
        })
        .await;
        self.insert("domains", TENANTS, &stored.one("domains"), |n, document| {
            document.extend(doc! {
                "_id": self.domain_ids[n], "tenantId": tenant(n), "name": format!("t{n}.test"),
                "token": format!("{n}"), "nextCheckAt": self.in_seconds(n),
            });
        })
        .await;
        self.insert(
            "subscriptions",
            TENANTS,
            &stored.one("subscriptions"),
            |n, document| {
                document.extend(doc! { "_id": SubscriptionId::new(), "tenantId": tenant(n) });
            },
        )
        .await;
        self.insert(
            "partners",
            self.partner_ids.len(),
            &stored.one("partners"),
            |n, document| {
                let status = ["active", "terminated"][usize::from(n % 50 == 49)];
                document.extend(doc! {
                    "_id": self.partner_ids[n], "slug": format!("p{n}"), "status": status,
                });
            },
        )
        .await;
        self.insert(
            "audit_events",
            2 * TENANTS,
            &stored.one("audit_events"),
            |n, document| {
                document.extend(doc! {
                    "_id": AuditEventId::new(), "tenantId": tenant(n), "at": self.in_seconds(n),
                });
                if n >= 2 * TENANTS - 5 {
                    document.insert("sealed", false);
                    document.remove("seq");
                } else {
                    let seq: i64 = if n < TENANTS { 1 } else { 2 };
                    document.insert("seq", seq);
                }
            },
        )
        .await;
        self.insert(
            "audit_chains",
            TENANTS,
            &stored.one("audit_chains"),
            |n, document| {
                document.extend(doc! { "_id": tenant(n).to_string(), "tenantId": tenant(n) });
            },
        )
        .await;
        self.fill_others(&stored).await;
        self.fill_jobs(&stored.one("jobs")).await;
    }

    /// Collections without a document in the fixture of the earlier build. Their queries return none of these.
    async fn fill_others(&self, stored: &Templates) {
        let new = Document::new();
        self.insert("invitations", TENANTS, &new, |n, document| {
            let partner = self.partner_ids[n % self.partner_ids.len()];
            document.extend(doc! {
                "_id": InvitationId::new(), "partnerId": partner, "email": format!("i{n}@demo.test"), "state": "pending",
            });
        })
        .await;
        let operation = doc! {
            "action": "requeue", "filter": { "state": "discarded" }, "total": 0_i64, "done": 0_i64, "skipped": 0_i64,
            "refused": 0_i64, "jobId": JobId::new(), "actor": { "id": "system", "kind": "system" }, "origin": {},
            "createdAt": self.now, "expireAt": self.in_seconds(3_600),
        };
        self.insert("job_operations", 1_000, &operation, |_, document| {
            document.insert("_id", JobOperationId::new());
        })
        .await;
        self.insert("job_operation_items", TENANTS, &new, |_, document| {
            document.extend(doc! {
                "operationId": JobOperationId::new(), "n": 1_i64, "jobId": JobId::new(), "outcome": "pending",
            });
        })
        .await;
        self.insert("subscription_snapshots", TENANTS, &new, |n, document| {
            let month = ["2025-01", "2025-02"][n % 2];
            let id = SnapshotId::deterministic(self.tenant_ids[n], month);
            document.extend(doc! { "_id": id, "month": month });
        })
        .await;
        self.insert("idempotency_keys", TENANTS, &new, |n, document| {
            document.extend(doc! { "_id": format!("key-{n}") });
        })
        .await;
        for name in ["prices", "flags", "upstreams"] {
            let documents = stored.all(name);
            self.insert(name, documents.len(), &new, |n, document| {
                document.extend(documents[n].clone());
            })
            .await;
        }
    }

    /// Most have ended; a few thousand wait for tomorrow and for now. One in a thousand changed something, and one in ten
    /// thousand is of a rare kind, failed with a rare code, and is among the oldest.
    async fn fill_jobs(&self, like: &Document) {
        let later = clock::later(self.now, Duration::from_hours(24));
        let unchanged = doc! { "name": "ocis", "state": "ok", "attempts": 0 };
        let mut changed = unchanged.clone();
        changed.insert("changes", ["space created"].map(Bson::from).to_vec());
        let failure = |code: &str, class: &str| {
            doc! { "code": code, "class": class, "message": "", "detail": "", "retryable": false }
        };
        self.insert("jobs", JOBS, like, |n, job| {
            let tenant = self.tenant_ids[n % TENANTS];
            let step = if n % 1_000 == 7 { &changed } else { &unchanged };
            job.remove("uniqueKey");
            job.extend(doc! {
                "_id": JobId::new(), "tenantId": tenant, "lockKey": format!("tenant:{tenant}"),
                "kind": (["provision_tenant", "reconcile_tenant", "recheck_domain"][n % 3]),
                "steps": [step.clone()], "runAt": self.now,
            });
            if n % 2 == 0 {
                job.extend(doc! { "parent": self.parent, "priority": 2 });
            }
            match n % 100 {
                0..5 => job.extend(doc! { "state": "available", "runAt": later }),
                5..8 => job.extend(doc! { "state": "available" }),
                8..10 => job.extend(doc! {
                    "state": "discarded", "error": failure("upstream_unavailable", "upstream"),
                }),
                10 => job.extend(doc! { "state": "cancelled" }),
                _ => {}
            }
            if n < JOBS / 10_000 {
                job.extend(doc! {
                    "kind": "trim_audit", "state": "discarded", "queue": "maintenance",
                    "error": failure("upstream_conflict", "conflict"),
                });
            }
        })
        .await;
    }

    fn in_seconds(&self, n: usize) -> DateTime {
        clock::later(self.now, Duration::from_secs(n as u64))
    }

    /// Inserts copies of a document, each edited.
    async fn insert(
        &self,
        collection: &str,
        count: usize,
        like: &Document,
        edit: impl Fn(usize, &mut Document),
    ) {
        let documents = self.store.collection::<Document>(collection);
        let batches = (0..count).step_by(BATCH).map(|from| {
            let batch = (from..count.min(from + BATCH)).map(|n| {
                let mut document = like.clone();
                edit(n, &mut document);
                document
            });
            batch.collect::<Vec<_>>()
        });
        stream::iter(batches)
            .map(|batch| documents.insert_many(batch).ordered(false).into_future())
            .buffer_unordered(4)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
    }

    /// Some job of the fixture that is due.
    pub(super) async fn due_job(&self) -> Job {
        let due = doc! { "state": "available", "runAt": { "$lte": self.now } };
        let jobs = self.store.collection::<Job>("jobs");
        jobs.find_one(due).await.unwrap().unwrap()
    }
}

/// Documents that an earlier build stored.
struct Templates(Document);

impl Templates {
    fn read() -> Self {
        let path = workspace::root().join("worker/tests/fixtures/stored_documents.json");
        Self(serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    }

    fn all(&self, collection: &str) -> Vec<Document> {
        let documents = self.0.get_array(collection).unwrap().iter();
        documents.filter_map(Bson::as_document).cloned().collect()
    }

    fn one(&self, collection: &str) -> Document {
        self.all(collection).swap_remove(0)
    }
}
