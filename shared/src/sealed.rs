//! Secrets inside a job document, encrypted.

use serde::{Deserialize, Serialize};

/// Secrets encrypted with XChaCha20-Poly1305, and which key did it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sealed {
    /// The key that opens it.
    pub key_id: String,
    /// Nonce and ciphertext.
    pub data: bson::Binary,
}
