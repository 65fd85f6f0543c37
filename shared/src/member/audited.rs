//! The fields of a member that the audit trail compares.

use bson::{Bson, Document, doc};

use super::Member;

impl Member {
    /// The fields that callers write, without secrets.
    pub fn audited_fields(&self) -> Document {
        let mut fields = doc! {
            "email": &self.email,
            "name": &self.name,
            "role": self.role.name(),
            "status": self.status.name(),
        };
        if let Some(mailbox) = &self.mailbox {
            let aliases = mailbox.aliases.iter();
            let aliases: Vec<Bson> = aliases.map(|alias| (&*alias.address).into()).collect();
            fields.insert("mailbox", &*mailbox.primary.address);
            fields.insert("aliases", aliases);
            fields.insert("quotaBytes", mailbox.quota_bytes);
        }
        if let Some(at) = self.purge_at {
            fields.insert("purgeAt", at);
        }
        if let Some(at) = self.password_issued_at {
            fields.insert("passwordIssuedAt", at);
        }
        fields
    }
}
