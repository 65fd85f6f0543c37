//! Side of a merge join: a stream ordered by tenant, one document ahead.

use std::mem;

use dezky_shared::{id::TenantId, store::StoreError};
use futures::{TryStreamExt as _, stream::BoxStream};

/// A stream with at most one document per tenant, ordered by tenant.
pub(super) struct Ordered<T> {
    stream: BoxStream<'static, Result<T, StoreError>>,
    next: Option<T>,
    tenant_of: fn(&T) -> TenantId,
}

impl<T> Ordered<T> {
    pub(super) async fn new(
        mut stream: BoxStream<'static, Result<T, StoreError>>,
        tenant_of: fn(&T) -> TenantId,
    ) -> Result<Self, StoreError> {
        let next = stream.try_next().await?;
        Ok(Self {
            stream,
            next,
            tenant_of,
        })
    }

    /// The tenant of the next document.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        self.next.as_ref().map(self.tenant_of)
    }

    /// The next document, if it is this tenant's.
    pub(super) async fn take(&mut self, tenant: TenantId) -> Result<Option<T>, StoreError> {
        if self.tenant() != Some(tenant) {
            return Ok(None);
        }
        let following = self.stream.try_next().await?;
        Ok(mem::replace(&mut self.next, following))
    }

    /// Skips the documents of earlier tenants.
    pub(super) async fn skip_to(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        while self.tenant().is_some_and(|next| next < tenant) {
            self.next = self.stream.try_next().await?;
        }
        Ok(())
    }
}
