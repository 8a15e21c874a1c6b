//! Ed25519 signatures as every signed fact is checked: strictly.

use ed25519_dalek::{Signature, VerifyingKey};

/// A signature does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signature does not verify")]
pub struct BadSignature;

/// Verifies an Ed25519 signature, refusing weak keys and malleable encodings.
///
/// # Errors
/// [`BadSignature`] when it does not verify.
pub fn verify_signature(
    public: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), BadSignature> {
    VerifyingKey::from_bytes(public)
        .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
        .map_err(|_| BadSignature)
}
