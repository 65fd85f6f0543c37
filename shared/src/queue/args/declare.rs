//! Declaration of a job kind: the implementation of [`JobArgs`](crate::queue::job::JobArgs) for its arguments.

/// Declares a job about a tenant. Unless its lock is named, it takes the tenant's. `$unique` is its unique key: `None` for
/// a job that joins no other.
macro_rules! tenant_job {
    (
        $args:ident, $kind:literal, $priority:ident $(, queue: $queue:ident)?
        $(, lock: |$locked:ident| $lock:expr)?, unique: |$this:ident| $unique:expr
    ) => {
        impl $crate::queue::job::JobArgs for $args {
            const KIND: &'static str = $kind;
            $(const QUEUE: $crate::queue::job::Queue = $crate::queue::job::Queue::$queue;)?
            const PRIORITY: $crate::queue::priority::Priority =
                $crate::queue::priority::Priority::$priority;

            fn tenant_id(&self) -> Option<$crate::id::TenantId> {
                Some(self.tenant_id)
            }

            $(
                fn lock_key(&self) -> Option<String> {
                    let $locked = self;
                    Some($lock)
                }
            )?

            fn unique_key(&self) -> Option<String> {
                let $this = self;
                $unique
            }
        }
    };
}

/// Declares a job about a tenant that takes the lock of the tenant's billing, in the queue `billing`.
macro_rules! billing_job {
    ($args:ident, $kind:literal, unique: |$this:ident| $unique:expr) => {
        $crate::queue::args::declare::tenant_job!(
            $args, $kind, Interactive, queue: Billing,
            lock: |this| format!("billing:{}", this.tenant_id), unique: |$this| $unique
        );
    };
}

/// Declares a job about a partner, which takes the partner's lock.
macro_rules! partner_job {
    ($args:ident, $kind:literal, $priority:ident, unique: |$this:ident| $unique:expr) => {
        impl $crate::queue::job::JobArgs for $args {
            const KIND: &'static str = $kind;
            const PRIORITY: $crate::queue::priority::Priority =
                $crate::queue::priority::Priority::$priority;

            fn tenant_id(&self) -> Option<$crate::id::TenantId> {
                None
            }

            fn lock_key(&self) -> Option<String> {
                Some(format!("partner:{}", self.partner_id))
            }

            fn unique_key(&self) -> Option<String> {
                let $this = self;
                $unique
            }
        }
    };
}

/// Declares a job about no tenant, in the queue `maintenance` unless another one is named.
macro_rules! maintenance_job {
    ($args:ident, $kind:literal, $priority:ident, lock: |$locked:ident| $lock:expr, unique: |$this:ident| $unique:expr) => {
        $crate::queue::args::declare::maintenance_job!(
            $args, $kind, $priority, queue: Maintenance, lock: |$locked| $lock, unique: |$this| $unique
        );
    };
    (
        $args:ident, $kind:literal, $priority:ident, queue: $queue:ident,
        lock: |$locked:ident| $lock:expr, unique: |$this:ident| $unique:expr
    ) => {
        impl $crate::queue::job::JobArgs for $args {
            const KIND: &'static str = $kind;
            const QUEUE: $crate::queue::job::Queue = $crate::queue::job::Queue::$queue;
            const PRIORITY: $crate::queue::priority::Priority =
                $crate::queue::priority::Priority::$priority;

            fn tenant_id(&self) -> Option<$crate::id::TenantId> {
                None
            }

            fn lock_key(&self) -> Option<String> {
                let $locked = self;
                $lock
            }

            fn unique_key(&self) -> Option<String> {
                let $this = self;
                $unique
            }
        }
    };
}

/// Declares a periodic job about no tenant, of which at most one waits and one runs.
macro_rules! singleton_job {
    ($args:ident, $kind:literal, $queue:ident) => {
        $crate::queue::args::declare::maintenance_job!(
            $args, $kind, Bulk, queue: $queue,
            lock: |_this| Some($kind.to_owned()), unique: |_this| Some("all".to_owned())
        );
    };
}

pub(super) use {billing_job, maintenance_job, partner_job, singleton_job, tenant_job};
