//! Query costs of jobs, queues and bulk job operations.

use std::time::Duration;

use dezky_shared::{
    id::{JobId, JobOperationId},
    platform::clock,
    queue::{
        args::LookUpMfa,
        error_code::{ErrorClass, ErrorCode},
        job::{JobFailure, JobState, Queue},
        job_operation::{ItemOutcome, JobSelection},
    },
    store::{
        jobs::{JobFilter, NewJob},
        queues::COUNT_LIMIT,
    },
};

use super::{Costs, ONE, PAGE, PAGED, TRIED};

/// Limit on counted jobs, of which each is a key.
const COUNTED: i64 = 12_000;
/// Keys read for the statistics of a queue: up to the limit for the due jobs, and for those scheduled for later.
const STATS: i64 = 2 * COUNT_LIMIT.cast_signed();

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (now, parent, tenant) = (fixture.now, fixture.parent, fixture.tenant_ids[0]);
    let job = fixture.due_job().await;
    let rare = || Some("trim_audit".to_owned());
    let of_state = |state| JobFilter {
        states: vec![state],
        ..JobFilter::default()
    };
    let of_parent = JobFilter {
        parent: Some(parent),
        ..JobFilter::default()
    };
    let filters = [
        JobFilter::default(),
        of_state(JobState::Running),
        of_state(JobState::Cancelled),
        JobFilter {
            kind: rare(),
            ..JobFilter::default()
        },
        JobFilter {
            kind: rare(),
            ..of_state(JobState::Completed)
        },
        of_parent.clone(),
        JobFilter {
            states: vec![JobState::Cancelled],
            ..of_parent.clone()
        },
        JobFilter {
            changed: Some(true),
            ..of_parent.clone()
        },
        JobFilter {
            changed: Some(false),
            ..of_parent
        },
        JobFilter {
            states: vec![JobState::Running, JobState::Cancelled],
            ..JobFilter::default()
        },
        JobFilter {
            queue: Some(Queue::Maintenance),
            ..JobFilter::default()
        },
        JobFilter {
            queue: Some(Queue::Maintenance),
            ..of_state(JobState::Discarded)
        },
        JobFilter {
            error_code: Some(ErrorCode::UpstreamConflict),
            ..JobFilter::default()
        },
        JobFilter {
            error_class: Some(ErrorClass::Conflict),
            ..of_state(JobState::Discarded)
        },
        JobFilter {
            since: Some(clock::earlier(now, Duration::from_mins(5))),
            until: Some(now),
            ..JobFilter::default()
        },
        JobFilter {
            tenants: Some(vec![tenant]),
            ..JobFilter::default()
        },
        JobFilter {
            tenants: Some(fixture.tenant_ids[..50].to_vec()),
            ..JobFilter::default()
        },
        JobFilter {
            tenants: Some(fixture.tenant_ids[..5_000].to_vec()),
            ..JobFilter::default()
        },
    ];
    for filter in &filters {
        // A scan for each tenant is merged, in parts.
        let tenants = i64::try_from(filter.tenants.as_ref().map_or(0, Vec::len)).unwrap();
        cost!(costs, TRIED + 3 * tenants, jobs.list(filter, PAGE));
    }
    let of_queue = JobFilter {
        queue: Some(Queue::Maintenance),
        ..JobFilter::default()
    };
    for filter in [
        JobFilter::default(),
        of_state(JobState::Completed),
        of_queue,
    ] {
        cost!(costs, 2 * PAGED, jobs.stats(&filter, PAGE));
    }
    cost!(costs, PAGED, jobs.ends(&[job.id, parent]));
    cost!(costs, ONE, jobs.find(job.id));
    cost!(costs, ONE, jobs.find(JobId::new()));
    cost!(costs, ONE, jobs.find_holder(&job.lock_key));
    let look = NewJob::new(&LookUpMfa { tenant_id: tenant }, "test", now).unwrap();
    cost!(costs, ONE, jobs.find_pending(&look));
    cost!(costs, PAGED, jobs.count_in_state(JobState::Discarded, 25));
    cost!(costs, COUNTED, jobs.count_ahead(&job, now));
    cost_in_transaction!(costs, TRIED, jobs.release_not_ready(&[tenant], now));
    // Proportional to the tenant's own jobs.
    let (ended, failure) = (&job, &JobFailure::permanent(ErrorCode::Internal, ""));
    cost_in_transaction!(costs, TRIED, jobs.fail_open_steps(ended, failure, now));
    cost!(costs, PAGED, jobs.list_by_ids(&[job.id, parent]));
    cost!(costs, PAGED, jobs.revisions(&[job.id, parent]));
    cost!(costs, 5 * COUNTED, jobs.count_children(parent));

    let selection = |state| JobSelection {
        state,
        kind: None,
        queue: None,
        tenant_id: None,
        error_code: None,
        error_class: None,
        created_after: None,
        created_before: None,
    };
    let discarded = || selection(JobState::Discarded);
    let selections = [
        selection(JobState::Completed),
        JobSelection {
            kind: rare(),
            ..discarded()
        },
        JobSelection {
            queue: Some(Queue::Maintenance),
            ..discarded()
        },
        JobSelection {
            error_code: Some(ErrorCode::UpstreamConflict),
            ..discarded()
        },
        JobSelection {
            error_class: Some(ErrorClass::Conflict),
            ..discarded()
        },
        JobSelection {
            tenant_id: Some(tenant),
            ..discarded()
        },
    ];
    for selection in &selections {
        cost!(costs, PAGED, jobs.select(selection, PAGE));
        cost!(costs, PAGED, jobs.count_selected(selection, 25));
        cost!(costs, PAGED, jobs.sample_selected(selection, PAGE));
    }
    for queue in Queue::ALL {
        cost!(costs, STATS, queues.stats(queue, now));
        cost!(costs, STATS, queues.count_due(queue, now));
    }
    cost!(costs, PAGED, job_operations.list(None, PAGE));
    cost!(costs, ONE, job_operations.find(JobOperationId::new()));
    cost!(
        costs,
        PAGED,
        job_operations.list_items(JobOperationId::new(), Some(ItemOutcome::Pending), 0, PAGE)
    );
}
