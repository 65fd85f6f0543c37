//! Storage of a tenant: the usage of its space, and of each member's mailbox and files, against the plan's allowance.
//!
//! The list has a row for each mailbox, by address, whether it is a member's or not, and then one for each member without
//! a mailbox.

use std::{collections::HashMap, fmt, str::FromStr};

use axum::response::Response;
use dezky_shared::{
    allowance::Allowance,
    billing::Plan,
    id::{MemberId, TenantId},
    member::Member,
    queue::args::MeasureStorage,
    storage_report::{MailboxUsage, PersonalSpace, QuotaState, SpaceUsage},
    store::{
        StoreError,
        storage_reports::{MailTotals, ReportPage},
    },
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::refresh_on_read::{Refresh, RefreshOnRead};
use crate::{
    error::ApiError,
    extract::{Page, PageOf, QueryParams},
    state::{AppState, SharedState},
    timestamp::Timestamp,
    views::JobLink,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Storage of a tenant, with a page of its members and mailboxes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantStorage)]
struct StorageView {
    /// Allowance of the tenant's plan.
    allowance: PlanAllowance,
    /// Time of the older one of both measurements. Missing until both were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<Timestamp>,
    /// Time at which the space was measured. Missing until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    files_as_of: Option<Timestamp>,
    /// Time at which the mailboxes were measured. Missing until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_as_of: Option<Timestamp>,
    /// The shared space. Missing if the tenant has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    space: Option<SpaceView>,
    /// All mailboxes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    mail: Option<MailView>,
    /// Mailboxes of the page, by address, and members without a mailbox after them.
    items: Vec<RowView>,
    /// Cursor of the next page. Null on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
    /// The job that measures again, because a measurement is older than five minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// Storage that the tenant's plan grants.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PlanAllowance {
    /// Plan: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Quota of the shared space, in bytes. 0 is unlimited.
    #[schema(minimum = 0)]
    files_bytes: i64,
    /// Quota of a mailbox that has none of its own, in bytes. 0 is unlimited.
    #[schema(minimum = 0)]
    mailbox_bytes: i64,
    /// Quota of a member's personal space, in bytes. 0 is unlimited. Missing: as the file server sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    member_files_bytes: Option<i64>,
}

/// Usage of the shared space.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SpaceUsage)]
struct SpaceView {
    /// Quota, in bytes. 0 is unlimited.
    #[schema(minimum = 0)]
    total_bytes: i64,
    /// Used bytes. Missing while the space is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    used_bytes: Option<i64>,
    /// `normal` (at most 75 %), `nearing` (90 %), `critical` or `exceeded`. Missing while the space is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<QuotaState>,
}

/// Usage of all mailboxes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MailUsage)]
struct MailView {
    /// Number of mailboxes.
    #[schema(minimum = 0)]
    mailboxes: i64,
    /// Used bytes.
    #[schema(minimum = 0)]
    used_bytes: i64,
}

/// Usage of a member, or of a mailbox that is not managed here.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StorageRow)]
struct RowView {
    /// Address of the mailbox, or the login of a member without one.
    address: String,
    /// Member. Missing for a mailbox that is not managed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    member_id: Option<String>,
    /// Name of the member.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Mailbox. Missing for a member without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox: Option<UsageView>,
    /// Personal space, as measured at night. Missing before the first sign-in to the file server, and for a person whose
    /// user existed there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<FilesView>,
}

/// Usage of a quota.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StorageUsage)]
struct UsageView {
    /// Quota, in bytes. 0 is unlimited.
    #[schema(minimum = 0)]
    total_bytes: i64,
    /// Used bytes.
    #[schema(minimum = 0)]
    used_bytes: i64,
    /// `normal` (at most 75 %), `nearing` (90 %), `critical` or `exceeded`.
    state: QuotaState,
}

/// Usage of a personal space.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PersonalSpaceUsage)]
struct FilesView {
    /// Usage.
    #[serde(flatten)]
    usage: UsageView,
    /// Time at which it was measured.
    as_of: Timestamp,
}

/// Position in the list: mailboxes first, then members without one.
#[derive(Debug, Clone)]
enum RowCursor {
    Mailbox(String),
    Member(MemberId),
}

impl fmt::Display for RowCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(address) => write!(f, "b/{address}"),
            Self::Member(id) => write!(f, "m/{id}"),
        }
    }
}

impl FromStr for RowCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once('/').ok_or(())? {
            ("b", address) => Ok(Self::Mailbox(address.to_owned())),
            ("m", id) => id.parse().map(Self::Member).map_err(drop),
            _ => Err(()),
        }
    }
}

/// A row of the list.
enum Row {
    Mailbox(MailboxUsage, Option<Box<Member>>),
    Member(Box<Member>),
}

impl Row {
    fn cursor(&self) -> RowCursor {
        match self {
            Self::Mailbox(mailbox, _) => RowCursor::Mailbox(mailbox.address.clone()),
            Self::Member(member) => RowCursor::Member(member.id),
        }
    }
}

impl From<Row> for RowView {
    fn from(row: Row) -> Self {
        let (address, mailbox, member) = match row {
            Row::Mailbox(usage, member) => {
                let view = UsageView::of(usage.used_bytes, usage.quota_bytes);
                (usage.address, Some(view), member)
            }
            Row::Member(member) => (member.email.clone(), None, Some(member)),
        };
        let space = member.as_ref().and_then(|member| member.personal_space);
        Self {
            address,
            member_id: member.as_ref().map(|member| member.id.to_string()),
            name: member.map(|member| member.name),
            mailbox,
            files: space.and_then(FilesView::of),
        }
    }
}

impl UsageView {
    fn of(used_bytes: i64, total_bytes: i64) -> Self {
        Self {
            total_bytes,
            used_bytes,
            state: QuotaState::of(used_bytes, total_bytes),
        }
    }
}

impl FilesView {
    fn of(space: PersonalSpace) -> Option<Self> {
        let SpaceUsage {
            total_bytes,
            used_bytes,
        } = space.usage;
        Some(Self {
            usage: UsageView::of(used_bytes?, total_bytes),
            as_of: space.as_of.into(),
        })
    }
}

impl From<SpaceUsage> for SpaceView {
    fn from(usage: SpaceUsage) -> Self {
        Self {
            total_bytes: usage.total_bytes,
            used_bytes: usage.used_bytes,
            state: usage.state(),
        }
    }
}

impl From<MailTotals> for MailView {
    fn from(totals: MailTotals) -> Self {
        Self {
            mailboxes: totals.count,
            used_bytes: totals.used_bytes,
        }
    }
}

impl StorageView {
    fn new(
        allowance: &Allowance,
        report: ReportPage,
        rows: PageOf<RowView>,
        job: Option<JobLink>,
    ) -> Self {
        Self {
            allowance: PlanAllowance {
                plan: allowance.plan,
                files_bytes: allowance.files_bytes,
                mailbox_bytes: allowance.mailbox_bytes,
                member_files_bytes: allowance.member_files_bytes,
            },
            as_of: report.as_of().map(Timestamp::from),
            files_as_of: report.files.as_ref().map(|files| files.as_of.into()),
            mail_as_of: report.mail.map(|mail| mail.as_of.into()),
            space: report
                .files
                .and_then(|files| files.space)
                .map(SpaceView::from),
            mail: report.mail.map(MailView::from),
            items: rows.items,
            next_cursor: rows.next_cursor,
            job,
        }
    }
}

/// Returns the storage that a tenant uses, and that its plan grants
///
/// As a job last measured it. A measurement that is older than five minutes is repeated: `job` is its job, and `Prefer:
/// wait` waits for it. Personal spaces are measured at night only. For owners and admins of the tenant, staff of its
/// partner, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/storage", operation_id = "getTenantStorage", tag = "tenants", params(Page),
    responses((status = 200, body = StorageView)),
)]
async fn show(
    fresh: RefreshOnRead,
    QueryParams(page): QueryParams<Page>,
) -> Result<Response, ApiError> {
    let (app, tenant) = (&fresh.app, &fresh.access.tenant);
    let list = format!("tenants/{}/storage", tenant.id);
    let after: Option<RowCursor> = page.after(&list)?;
    let find = || {
        let (reports, limit) = (&app.db.storage_reports, page.fetch_limit());
        match &after {
            Some(RowCursor::Member(_)) => reports.find_page(tenant.id, None, 0),
            Some(RowCursor::Mailbox(after)) => reports.find_page(tenant.id, Some(after), limit),
            None => reports.find_page(tenant.id, None, limit),
        }
    };
    let mut report = find().await?;
    let allowance = app.db.allowances.of_plan(tenant.plan).await?;
    let args = MeasureStorage {
        tenant_id: tenant.id,
    };
    let refresh = fresh.request(&args, report.as_of()).await?;
    if refresh.as_ref().is_some_and(|refresh| refresh.waited) {
        report = find().await?;
    }
    let mailboxes = std::mem::take(&mut report.mailboxes);
    let rows = rows(app, tenant.id, mailboxes, after, page.fetch_limit()).await?;
    let rows = page.build(&list, rows, |row| row.cursor().to_string(), RowView::from);
    let job = refresh.as_ref().map(|refresh| JobLink::from(&refresh.job));
    let view = StorageView::new(&allowance, report, rows, job);
    Ok(Refresh::respond(refresh.as_ref(), &view))
}

/// At most `limit` rows after `after`: the page's `mailboxes` with their members, and then members without a mailbox.
async fn rows(
    app: &AppState,
    tenant_id: TenantId,
    mailboxes: Vec<MailboxUsage>,
    after: Option<RowCursor>,
    limit: i64,
) -> Result<Vec<Row>, StoreError> {
    let members = &app.db.members;
    let addresses: Vec<String> = mailboxes.iter().map(|it| it.address.clone()).collect();
    let found = members.list_by_addresses(tenant_id, &addresses).await?;
    let mut of_address: HashMap<String, Member> = HashMap::new();
    for member in found {
        if let Some(mailbox) = &member.mailbox {
            of_address.insert(mailbox.primary.address.clone(), member);
        }
    }
    let mut rows: Vec<Row> = mailboxes
        .into_iter()
        .map(|mailbox| {
            let member = of_address.remove(&mailbox.address);
            Row::Mailbox(mailbox, member.map(Box::new))
        })
        .collect();
    let rest = limit - i64::try_from(rows.len()).unwrap_or(limit);
    if rest > 0 {
        let after = match after {
            Some(RowCursor::Member(id)) => Some(id),
            _ => None,
        };
        let without = members.list_without_mailbox(tenant_id, after, rest).await?;
        rows.extend(
            without
                .into_iter()
                .map(|member| Row::Member(Box::new(member))),
        );
    }
    Ok(rows)
}
