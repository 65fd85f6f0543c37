//! A large database: many tenants with a user, a domain, a subscription and audit events each, and many more jobs.
//!
//! The documents are those that an earlier build stored, copied with other keys. The server makes the copies: it is sent
//! each document once, and the fields in which the copies differ. The indexes are built at the end, which is faster than
//! to maintain them.

use std::{fs, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    app::{BINDING_MISSING, BINDING_PRESENT},
    id::{
        AppId, AuditEventId, DomainId, InvitationId, InvoiceId, JobId, JobOperationId,
        LedgerEntryId, MemberId, MemberImportId, PartnerId, PayoutId, SavedReportId, SetupIntentId,
        SnapshotId, SubscriptionId, TenantId, UserId,
    },
    member::Member,
    platform::clock,
    queue::job::Job,
    store::{
        MongoConfig, Store, StoreError, allowances::AllowanceRepository, apps::AppRepository,
        audit::AuditRepository, billing_accounts::BillingAccountRepository,
        billing_totals::BillingTotalsRepository, dependencies::DependencyRepository,
        domains::DomainRepository, flags::FlagRepository, idempotency::IdempotencyRepository,
        invitations::InvitationRepository, invoices::InvoiceRepository,
        job_operations::JobOperationRepository, jobs::JobRepository, ledger::LedgerRepository,
        member_imports::MemberImportRepository, members::MemberRepository,
        mfa_reports::MfaReportRepository, partners::PartnerRepository, payouts::PayoutRepository,
        prices::PriceRepository, queues::QueueRepository, report_months::ReportMonthRepository,
        saved_reports::SavedReportRepository, schedule_ledger::ScheduleLedger,
        setup_intents::SetupIntentRepository, snapshots::SnapshotRepository,
        storage_reports::StorageReportRepository, stripe_calls::StripeCallRepository,
        subscriptions::SubscriptionRepository, tenant_resource_changes::TenantResourceChanges,
        tenants::TenantRepository, upstreams::UpstreamRepository, users::UserRepository,
        webhook_events::WebhookEventRepository, workers::WorkerRepository,
    },
    user::Role,
};
use dezky_sim::{isolated_stores::FreshStores, workspace};

/// Tenants, and documents of most other collections.
const TENANTS: usize = 100_000;
/// Jobs.
const JOBS: usize = 1_000_000;
/// Copies whose differences are sent in one document, which has at most 16 MiB.
const BATCH: usize = 20_000;

/// The database with its repositories.
pub(super) struct Fixture {
    pub(super) store: Arc<Store>,
    pub(super) allowances: AllowanceRepository,
    pub(super) apps: AppRepository,
    pub(super) audit: AuditRepository,
    pub(super) billing_totals: BillingTotalsRepository,
    pub(super) dependencies: DependencyRepository,
    pub(super) domains: DomainRepository,
    pub(super) flags: FlagRepository,
    pub(super) idempotency: IdempotencyRepository,
    pub(super) invitations: InvitationRepository,
    pub(super) billing_accounts: BillingAccountRepository,
    pub(super) stripe_calls: StripeCallRepository,
    pub(super) invoices: InvoiceRepository,
    pub(super) job_operations: JobOperationRepository,
    pub(super) jobs: JobRepository,
    pub(super) ledger: LedgerRepository,
    pub(super) mfa_reports: MfaReportRepository,
    pub(super) member_imports: MemberImportRepository,
    pub(super) members: MemberRepository,
    pub(super) tenant_resource_changes: TenantResourceChanges,
    pub(super) partners: PartnerRepository,
    pub(super) payouts: PayoutRepository,
    pub(super) prices: PriceRepository,
    pub(super) queues: QueueRepository,
    pub(super) report_months: ReportMonthRepository,
    pub(super) saved_reports: SavedReportRepository,
    pub(super) schedule_ledger: ScheduleLedger,
    pub(super) setup_intents: SetupIntentRepository,
    pub(super) snapshots: SnapshotRepository,
    pub(super) storage_reports: StorageReportRepository,
    pub(super) subscriptions: SubscriptionRepository,
    pub(super) tenants: TenantRepository,
    pub(super) upstreams: UpstreamRepository,
    pub(super) users: UserRepository,
    pub(super) webhook_events: WebhookEventRepository,
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
            allowances: AllowanceRepository::new(&store),
            apps: AppRepository::new(&store),
            audit: AuditRepository::new(&store),
            billing_totals: BillingTotalsRepository::new(&store),
            dependencies: DependencyRepository::new(&store),
            domains: DomainRepository::new(&store),
            flags: FlagRepository::new(&store),
            idempotency: IdempotencyRepository::new(&store),
            invitations: InvitationRepository::new(&store),
            billing_accounts: BillingAccountRepository::new(&store),
            stripe_calls: StripeCallRepository::new(&store),
            invoices: InvoiceRepository::new(&store),
            job_operations: JobOperationRepository::new(&store),
            jobs: JobRepository::new(&store),
            ledger: LedgerRepository::new(&store),
            mfa_reports: MfaReportRepository::new(&store),
            member_imports: MemberImportRepository::new(&store),
            members: MemberRepository::new(&store),
            tenant_resource_changes: TenantResourceChanges::new(&store),
            partners: PartnerRepository::new(&store),
            payouts: PayoutRepository::new(&store),
            prices: PriceRepository::new(&store),
            queues: QueueRepository::new(&store),
            report_months: ReportMonthRepository::new(&store),
            saved_reports: SavedReportRepository::new(&store),
            schedule_ledger: ScheduleLedger::new(&store),
            setup_intents: SetupIntentRepository::new(&store),
            snapshots: SnapshotRepository::new(&store),
            storage_reports: StorageReportRepository::new(&store),
            subscriptions: SubscriptionRepository::new(&store),
            tenants: TenantRepository::new(&store),
            upstreams: UpstreamRepository::new(&store),
            users: UserRepository::new(&store),
            webhook_events: WebhookEventRepository::new(&store),
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
            self.apps.ensure_indexes(),
            self.audit.ensure_indexes(),
            self.billing_totals.ensure_indexes(),
            self.domains.ensure_indexes(),
            self.idempotency.ensure_indexes(),
            self.invitations.ensure_indexes(),
            self.billing_accounts.ensure_indexes(),
            self.invoices.ensure_indexes(),
            self.job_operations.ensure_indexes(),
            self.jobs.ensure_indexes(),
            self.member_imports.ensure_indexes(),
            self.ledger.ensure_indexes(),
            self.payouts.ensure_indexes(),
            self.members.ensure_indexes(),
            self.partners.ensure_indexes(),
            self.prices.ensure_indexes(),
            self.report_months.ensure_indexes(),
            self.saved_reports.ensure_indexes(),
            self.schedule_ledger.ensure_indexes(),
            self.setup_intents.ensure_indexes(),
            self.snapshots.ensure_indexes(),
            self.stripe_calls.ensure_indexes(),
            self.subscriptions.ensure_indexes(),
            self.tenants.ensure_indexes(),
            self.users.ensure_indexes(),
            self.webhook_events.ensure_indexes(),
            self.workers.ensure_indexes(),
        )?;
        Ok(())
    }

    async fn fill(&self) {
        let stored = Templates::read();
        tokio::join!(self.fill_jobs(stored.one("jobs")), self.fill_most(&stored));
    }

    async fn fill_most(&self, stored: &Templates) {
        let tenant = |n: usize| self.tenant_ids[n % TENANTS];
        self.insert("tenants", TENANTS, &stored.one("tenants"), |n, document| {
            let status = ["active", "active", "active", "suspended"][n % 4];
            document.extend(doc! {
                "_id": tenant(n), "slug": format!("t{n}"), "words": [format!("t{n}")], "domains": [format!("t{n}.test")], "status": status,
                "plan": (["starter", "business"][n % 2]), "authentikGroupId": format!("g{n}"),
                "mailDomains": [{ "id": format!("d{n}"), "name": format!("t{n}.test") }],
                "partnerId": self.partner_ids[if n % 2 == 0 { 0 } else { n / 10 }],
            });
        })
        .await;
        self.insert("users", TENANTS, &stored.one("users"), |n, document| {
            let membership =
                doc! { "tenantId": tenant(n), "role": "owner", "source": "local", "changedAt": self.now };
            let mut memberships = vec![membership];
            if n >= TENANTS / 2 {
                memberships.push(doc! {
                    "tenantId": self.crowded(), "role": "member", "source": "local", "changedAt": self.now,
                    "memberId": MemberId::from_bytes(self.user_ids[n].bytes()),
                });
            }
            document.extend(doc! {
                "_id": self.user_ids[n], "authentikSubjectId": format!("s{n}"),
                "email": format!("u{n}@demo.test"), "memberships": memberships,
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
                let id = SubscriptionId::from_bytes(self.tenant_ids[n].bytes());
                document.extend(doc! { "_id": id, "tenantId": tenant(n) });
                // All but a few are enrolled.
                if n % 10_000 != 0 {
                    let through = self.in_seconds(n);
                    document.extend(doc! { "invoicedThrough": through, "billingAnchor": through });
                }
                if n % 100 == 99 {
                    document.insert("biller", "stripe");
                }
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
        let mut event = stored.one("audit_events");
        event.remove("seq");
        self.insert("audit_events", 2 * TENANTS, &event, |n, document| {
            document.extend(doc! {
                "_id": AuditEventId::new(), "tenantId": tenant(n), "at": self.in_seconds(n),
            });
            if n >= 2 * TENANTS - 5 {
                document.insert("sealed", false);
            } else {
                let seq: i64 = if n < TENANTS { 1 } else { 2 };
                document.insert("seq", seq);
            }
        })
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
        self.fill_members().await;
        self.fill_others(stored).await;
    }

    /// The tenant that half of all members belong to.
    pub(super) fn crowded(&self) -> TenantId {
        self.tenant_ids[TENANTS - 1]
    }

    /// The member of each user: of the crowded tenant, or of a tenant of their own. One in a thousand fails.
    async fn fill_members(&self) {
        let like = Member::new(self.crowded(), "", "", Role::Member, None, self.now);
        let like = bson::serialize_to_document(&like).unwrap();
        self.insert("members", TENANTS, &like, |n, document| {
            let tenant = if n >= TENANTS / 2 {
                self.crowded()
            } else {
                self.tenant_ids[n]
            };
            let address = format!("m{n}@t{n}.test");
            document.extend(doc! {
                "_id": MemberId::from_bytes(self.user_ids[n].bytes()), "tenantId": tenant, "email": &address,
                "userId": self.user_ids[n], "words": ["test", &format!("m{n}")],
                "mailbox": {
                    "localPart": format!("m{n}"), "domainId": self.domain_ids[n], "address": &address,
                    "aliases": [], "addresses": [&address],
                },
            });
            if n % 1_000 == 999 {
                let failing = doc! { "authentik": "error", "stalwart": "ok", "ocis": "ok" };
                document.insert("provisioningStatus", failing);
            }
        })
        .await;
    }

    /// Collections without a document in the fixture of the earlier build. Their queries return none of these.
    async fn fill_others(&self, stored: &Templates) {
        let new = Document::new();
        self.insert("apps", TENANTS, &new, |n, document| {
            let reason = if n % 1_000 == 0 { BINDING_MISSING } else { BINDING_PRESENT };
            let status = if n % 1_000 == 0 { "false" } else { "true" };
            let restricted = doc! {
                "type": "Restricted", "status": status, "reason": reason, "message": "", "observedGeneration": 1_i64,
                "lastTransitionAt": self.now,
            };
            document.extend(doc! {
                "_id": self.app_id(n), "tenantId": self.tenant_ids[n], "name": "Wiki", "slug": "wiki",
                "redirectUris": ["https://wiki.test/"], "clientType": "public", "grantTypes": [], "scopes": ["openid"],
                "accessTokenMinutes": 5, "clientId": format!("c{n}"), "status": "active", "conditions": [restricted],
                "generation": 1_i64, "revision": 1_i64, "createdAt": self.now, "updatedAt": self.now,
            });
        })
        .await;
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
        self.insert("member_imports", 1_000, &new, |n, document| {
            document.extend(doc! { "_id": MemberImportId::new(), "tenantId": self.tenant_ids[n] });
        })
        .await;
        for name in ["member_import_rows", "member_import_passwords"] {
            self.insert(name, TENANTS, &new, |_, document| {
                document.extend(doc! {
                    "importId": MemberImportId::new(), "n": 1_i64, "outcome": "pending", "password": "inFile",
                });
            })
            .await;
        }
        self.insert("subscription_snapshots", TENANTS, &new, |n, document| {
            let month = ["2025-01", "2025-02"][n % 2];
            let id = SnapshotId::deterministic(self.tenant_ids[n], month);
            let tenant = self.tenant_ids[n];
            document.extend(doc! {
                "_id": id, "month": month, "tenantId": tenant, "slug": format!("t{n}"), "tenantStatus": "active",
                "plan": "starter", "takenAt": self.now,
            });
        })
        .await;
        let account = doc! { "syncedAt": self.now };
        self.insert("billing_accounts", TENANTS, &account, |n, document| {
            document.extend(doc! {
                "_id": self.tenant_ids[n], "stripeCustomerId": format!("cus_{n}"),
                "formerStripeCustomerIds": [format!("cus_{n}_former")],
            });
        })
        .await;
        let intent = doc! {
            "requestedBy": "", "createdAt": self.now, "expireAt": self.in_seconds(3_600),
        };
        self.insert("setup_intents", 1_000, &intent, |n, document| {
            document
                .extend(doc! { "_id": SetupIntentId::new(), "tenantId": self.tenant_ids[n / 10] });
        })
        .await;
        let event = doc! {
            "type": "customer.updated", "objectType": "customer", "created": self.now, "source": "webhook",
            "expireAt": self.in_seconds(3_600), "state": "processed",
        };
        self.insert("webhook_events", TENANTS, &event, |n, document| {
            let customer = format!("cus_{}", n / 10);
            document.extend(doc! {
                "_id": format!("evt_{n}"), "objectId": &customer,
                "mirrored": { "objectType": "customer", "objectId": customer },
                "receivedAt": self.in_seconds(n), "enqueuedAt": self.in_seconds(n),
            });
            if n % 100 == 95 {
                document.insert("state", "received");
            }
        })
        .await;
        let call =
            doc! { "generation": 1_i64, "requestHash": "", "startedAt": self.now, "state": "done" };
        self.insert("stripe_calls", TENANTS, &call, |n, document| {
            document.insert("_id", format!("customer.create:{n}"));
        })
        .await;
        let invoice = doc! {
            "marginBasisPoints": 0, "kind": "cycle", "status": "open", "billTo": {}, "currency": "DKK", "lines": [],
            "subtotalMinor": 5_i64, "taxNote": "net", "issuedAt": self.now, "isOverdue": false, "revision": 1_i64,
            "createdAt": self.now, "updatedAt": self.now,
        };
        self.insert("invoices", TENANTS, &invoice, |n, document| {
            let tenant = self.tenant_ids[n];
            document.extend(doc! {
                "_id": InvoiceId::from_bytes(tenant.bytes()), "tenantId": tenant,
                "subscriptionId": SubscriptionId::from_bytes(tenant.bytes()), "periodKey": format!("{tenant}/cycle/1"),
                "number": format!("N-{n}"), "dueAt": self.in_seconds(n),
                "partnerId": self.partner_ids[if n % 2 == 0 { 0 } else { n / 10 }],
            });
            match n % 100 {
                0..90 => document.extend(doc! { "status": "paid" }),
                90..95 => document.extend(doc! { "isOverdue": true }),
                95 => {
                    let stripe = doc! {
                        "id": format!("in_{n}"), "totalMinor": 5_i64, "amountRemainingMinor": 5_i64,
                    };
                    document.extend(doc! { "stripe": stripe });
                }
                _ => {}
            }
        })
        .await;
        let entry = doc! {
            "kind": "accrual", "currency": "DKK", "amountMinor": 5_i64, "occurredAt": self.now, "recordedAt": self.now,
            "sequence": 1_i64,
        };
        self.insert("ledger_entries", TENANTS, &entry, |n, document| {
            let bytes = self.tenant_ids[n].bytes();
            document.extend(doc! {
                "_id": LedgerEntryId::from_bytes(bytes), "invoiceId": InvoiceId::from_bytes(bytes),
                "partnerId": self.partner_ids[n / 10],
            });
            if n % 10 != 0 {
                document.insert("payoutId", PayoutId::from_bytes(bytes));
            }
        })
        .await;
        self.fill_reports().await;
        self.insert("partner_balances", self.partner_ids.len(), &new, |n, document| {
            let partner = self.partner_ids[n];
            document.extend(doc! { "_id": format!("{partner}/DKK"), "partnerId": partner, "currency": "DKK" });
        })
        .await;
        let payout = doc! {
            "month": "2026-11", "currency": "DKK", "amountMinor": 5_i64, "entryCount": 1_i64, "revision": 1_i64,
            "createdAt": self.now, "updatedAt": self.now,
        };
        self.insert("payouts", TENANTS, &payout, |n, document| {
            let status = ["paid", "pending"][usize::from(n % 1_000 == 0)];
            document.extend(doc! {
                "_id": PayoutId::from_bytes(self.tenant_ids[n].bytes()), "status": status,
                "partnerId": self.partner_ids[n / 10],
            });
        })
        .await;
        self.insert("idempotency_keys", TENANTS, &new, |n, document| {
            document.extend(doc! { "_id": format!("key-{n}") });
        })
        .await;
        let report = doc! {
            "asOf": self.now, "enrolled": 1_i64, "notEnrolled": 1_i64, "unknown": 0_i64,
        };
        for name in ["storage_reports", "mfa_reports"] {
            self.insert(name, TENANTS, &report, |n, document| {
                document.insert("_id", self.tenant_ids[n]);
            })
            .await;
        }
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
    async fn fill_jobs(&self, mut like: Document) {
        let later = clock::later(self.now, Duration::from_hours(24));
        let unchanged = doc! { "name": "ocis", "state": "ok", "attempts": 0 };
        let mut changed = unchanged.clone();
        changed.insert("changes", ["space created"].map(Bson::from).to_vec());
        let failure = |code: &str, class: &str| {
            doc! { "code": code, "class": class, "message": "", "detail": "", "retryable": false }
        };
        // No query reads these.
        for field in ["uniqueKey", "attempts", "requestId"] {
            like.remove(field);
        }
        // The ids have the times of creation.
        let created = clock::earlier(self.now, Duration::from_secs(1));
        like.extend(doc! { "steps": [unchanged], "runAt": self.now, "createdAt": created });
        self.insert("jobs", JOBS, &like, |n, job| {
            let tenant = self.tenant_ids[n % TENANTS];
            job.extend(doc! {
                "_id": JobId::new(), "tenantId": tenant, "lockKey": format!("tenant:{tenant}"),
                "kind": (["provision_tenant", "reconcile_tenant", "recheck_domain"][n % 3]),
            });
            if n % 1_000 == 7 {
                job.insert("steps", vec![changed.clone()]);
            }
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

    async fn fill_reports(&self) {
        let totals = doc! { "currency": "DKK", "billedMinor": 5_i64, "paidMinor": 5_i64 };
        self.insert("billing_totals", TENANTS, &totals, |n, document| {
            let scope = if n < 1_000 {
                "platform".to_owned()
            } else {
                self.partner_ids[n / 10].to_string()
            };
            document.extend(doc! {
                "_id": format!("{n}"), "scope": scope, "month": format!("20{:02}-11", n % 100),
            });
        })
        .await;
        let sums = doc! { "asOf": self.now, "summarizedAt": self.now };
        self.insert("report_months", TENANTS, &sums, |n, document| {
            let month = format!("{}-{:02}", 2020 + n / 12 % 10, n % 12 + 1);
            let scope = match n / 120 {
                0 => "platform".to_owned(),
                number => self.partner_ids[number - 1].to_string(),
            };
            document.extend(doc! {
                "_id": format!("{month}/{scope}"), "month": month, "scope": scope,
            });
        })
        .await;
        let saved = doc! {
            "scope": "platform", "query": { "report": "mrr" }, "revision": 1_i64, "createdAt": self.now,
            "updatedAt": self.now,
        };
        self.insert("saved_reports", TENANTS, &saved, |n, document| {
            document.extend(doc! {
                "_id": SavedReportId::from_bytes(self.tenant_ids[n].bytes()),
                "ownerId": self.user_ids[n / 50], "name": format!("{n}"),
            });
        })
        .await;
        let payment = doc! { "month": "2026-11" };
        self.insert("first_payments", TENANTS, &payment, |n, document| {
            document.insert("_id", self.tenant_ids[n]);
        })
        .await;
    }

    pub(super) fn in_seconds(&self, n: usize) -> DateTime {
        clock::later(self.now, Duration::from_secs(n as u64))
    }

    /// Creates a collection of copies of a document. `edit` adds the fields in which a copy differs.
    async fn insert(
        &self,
        collection: &str,
        count: usize,
        like: &Document,
        edit: impl Fn(usize, &mut Document),
    ) {
        let seed = format!("{collection}_seed");
        let seed = self.store.collection::<Document>(&seed);
        for from in (0..count).step_by(BATCH) {
            let differences = (from..count.min(from + BATCH)).map(|n| {
                let mut fields = Document::new();
                edit(n, &mut fields);
                fields
            });
            let differences: Vec<_> = differences.collect();
            seed.insert_one(doc! { "differences": differences })
                .await
                .unwrap();
        }
        let copies = [
            doc! { "$unwind": "$differences" },
            doc! { "$replaceWith": { "$mergeObjects": [{ "$literal": like }, "$differences"] } },
            doc! { "$out": collection },
        ];
        seed.aggregate(copies).await.unwrap();
        seed.drop().await.unwrap();
    }

    /// The app of the tenant with this number.
    pub(super) fn app_id(&self, n: usize) -> AppId {
        AppId::from_bytes(self.tenant_ids[n].bytes())
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
