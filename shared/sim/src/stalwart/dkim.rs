//! DKIM keys: objects of their own, made by the server some time after the domain.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{
    Mail, State,
    object::{Id, Kind, Object, Properties as _},
};

/// The algorithms a domain signs with unless told otherwise, in the order their keys are made.
pub(super) const ALGORITHMS: [&str; 2] = ["Dkim1Ed25519Sha256", "Dkim1RsaSha256"];

/// Makes the keys that an object lacks, if it is a domain that wants them: now, or one after the other within
/// the delay.
pub(super) fn make_keys(mail: &Mail, kind: Kind, id: Id) {
    if kind != Kind::Domain {
        return;
    }
    let mut state = mail.lock();
    let delay = state.dkim_delay;
    if delay.is_zero() {
        for algorithm in ALGORITHMS {
            state.make_key(id, algorithm);
        }
        return;
    }
    drop(state);
    let mail = mail.clone();
    tokio::spawn(async move {
        for algorithm in ALGORITHMS {
            tokio::time::sleep(delay / 2).await;
            mail.lock().make_key(id, algorithm);
        }
    });
}

impl State {
    /// Makes a key, unless the domain has gone, does not want it, or has it.
    fn make_key(&mut self, domain_id: Id, algorithm: &str) {
        let Some(domain) = self.objects.get(Kind::Domain, domain_id) else {
            return;
        };
        let wanted = domain
            .members("dkimManagement")
            .and_then(|management| management.members("algorithms"))
            .is_some_and(|algorithms| algorithms.contains_key(algorithm));
        let mut keys = self.objects.within(Kind::DkimSignature, domain_id);
        let exists = keys.any(|(_, key)| key.text("@type") == algorithm);
        drop(keys);
        if wanted && !exists {
            self.objects
                .insert(Kind::DkimSignature, key(domain_id, algorithm));
        }
    }

    /// A task that was still running makes one more key for the domain of `destroyed`, if that was asked for. It does not
    /// look again whether the domain still wants it.
    pub(super) fn make_late_key(&mut self, destroyed: &Object) {
        if self.late_dkim_keys > 0
            && let Ok(domain_id) = destroyed.text("domainId").parse()
        {
            self.late_dkim_keys -= 1;
            self.objects
                .insert(Kind::DkimSignature, key(domain_id, ALGORITHMS[0]));
        }
    }
}

fn key(domain_id: Id, algorithm: &str) -> Object {
    let date =
        jiff::Timestamp::from_millisecond(dezky_shared::platform::clock::now().timestamp_millis())
            .unwrap_or_default()
            .strftime("%Y%m%d")
            .to_string();
    let short = if algorithm == ALGORITHMS[0] {
        "ed25519"
    } else {
        "rsa"
    };
    let mut key = Kind::DkimSignature.defaults();
    key.extend([
        ("@type".into(), json!(algorithm)),
        ("domainId".into(), json!(domain_id.to_string())),
        ("selector".into(), json!(format!("v1-{short}-{date}"))),
        ("publicKey".into(), json!(public_key(algorithm))),
        (
            "privateKey".into(),
            json!({ "@type": "Text", "secret": "never a real key" }),
        ),
    ]);
    key
}

/// A public key that looks like one. Nothing is ever signed with it.
pub(super) fn public_key(algorithm: &str) -> String {
    if algorithm == ALGORITHMS[0] {
        return BASE64_STANDARD.encode(rand::random::<[u8; 32]>());
    }
    // The DER of an RSA public key of 2048 bits: header, modulus, exponent 65537.
    let mut der = vec![
        0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01,
        0x01, 0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82,
        0x01, 0x01, 0x00,
    ];
    der.extend((0..256).map(|_| rand::random::<u8>() | 1));
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    BASE64_STANDARD.encode(der)
}
