//! Signatures that a block or a command rests on, gathered first and then verified at once.
//!
//! Verifying many together takes a quarter of the time; which of them does not verify is looked for only if one does
//! not. Both ways accept the same signatures (`SignedBy::all_verify`), so it does not matter who verified what with what.

use alloc::vec::Vec;

use barfs_crypto::SignedBy;

/// Beyond so many at once nothing more is gained, and what it takes of memory stays small.
const TOGETHER_MAX: usize = 1024;

/// Signatures, each with what to say if it does not verify.
pub(crate) struct Claims<E> {
    claims: Vec<SignedBy>,
    errors: Vec<E>,
}

impl<E> Default for Claims<E> {
    fn default() -> Self {
        Self {
            claims: Vec::new(),
            errors: Vec::new(),
        }
    }
}

impl<E: Copy> Claims<E> {
    /// One more.
    pub(crate) fn add(&mut self, claim: SignedBy, error: E) {
        self.claims.push(claim);
        self.errors.push(error);
    }

    /// Verifies all.
    ///
    /// # Errors
    /// What the first that does not verify was added with.
    pub(crate) fn verify(&self) -> Result<(), E> {
        let claims = self.claims.chunks(TOGETHER_MAX);
        let errors = self.errors.chunks(TOGETHER_MAX);
        for (claims, errors) in claims.zip(errors) {
            if SignedBy::all_verify(claims) {
                continue;
            }
            let mut alone = claims.iter().zip(errors);
            if let Some((_, error)) = alone.find(|(claim, _)| claim.verify().is_err()) {
                return Err(*error);
            }
        }
        Ok(())
    }
}
