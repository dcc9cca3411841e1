//! Signatures that a block or a command rests on, gathered first and then verified at once.
//!
//! Verifying many together takes a quarter of the time; which of them does not verify is looked for only if one does
//! not. Both ways accept the same signatures (`SignedBy::all_verify`), so it does not matter who verified what with what.

use alloc::vec::Vec;

use barfs_crypto::{KnownKeys, SignedBy};

/// Beyond so many at once nothing more is gained, and what it takes of memory stays small.
const TOGETHER_MAX: usize = 512;

/// Signatures, each with what to say if it does not verify.
#[derive(Clone, Debug)]
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

    /// Those of a part, whose errors `error` makes ones of the whole.
    pub(crate) fn append<F>(&mut self, part: Claims<F>, error: impl Fn(F) -> E) {
        self.claims.extend(part.claims);
        self.errors.extend(part.errors.into_iter().map(error));
    }

    /// What was gathered.
    pub(crate) fn all(&self) -> &[SignedBy] {
        &self.claims
    }

    /// Verifies all.
    ///
    /// # Errors
    /// What the first that does not verify was added with.
    pub(crate) fn verify(&self) -> Result<(), E> {
        self.judged(judge_alone(&self.claims, &mut KnownKeys::default()))
    }

    /// What a verdict about these means.
    ///
    /// # Errors
    /// What the one that does not verify was added with.
    pub(crate) fn judged(&self, verdict: Verdict) -> Result<(), E> {
        match verdict.0.and_then(|bad| self.errors.get(bad)) {
            None => Ok(()),
            Some(error) => Err(*error),
        }
    }
}

/// A block or a command that is in order but for its signatures, which are gathered here.
#[derive(Clone, Debug)]
pub struct Unverified<T, E> {
    what: T,
    claims: Claims<E>,
}

impl<T, E: Copy> Unverified<T, E> {
    pub(crate) fn new(what: T, claims: Claims<E>) -> Self {
        Self { what, claims }
    }

    /// Its signatures, for [`verify_together`].
    #[must_use]
    pub fn signatures(&self) -> &[SignedBy] {
        self.claims.all()
    }

    /// It, if its signatures hold; `verdict` is that about them.
    ///
    /// # Errors
    /// Names the signature that does not verify.
    pub fn judged(self, verdict: Verdict) -> Result<T, E> {
        self.claims.judged(verdict)?;
        Ok(self.what)
    }

    /// It, if its signatures hold: verifies them, all that are in it at once.
    ///
    /// # Errors
    /// Names the first that does not verify.
    pub fn verify(self) -> Result<T, E> {
        self.claims.verify()?;
        Ok(self.what)
    }
}

/// What was found of the signatures of one thing: all hold, or which is the first that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(Option<usize>);

impl Verdict {
    /// Whether all hold.
    #[must_use]
    pub fn holds(self) -> bool {
        self.0.is_none()
    }
}

/// Verifies the signatures of many things, those of each in one list, all together. If some do not hold, each thing is
/// looked at alone: what one brought with it is never put down to another.
#[must_use]
pub fn verify_together(things: &[&[SignedBy]], known: &mut KnownKeys) -> Vec<Verdict> {
    let all: Vec<&SignedBy> = things.iter().copied().flatten().collect();
    if things.len() > 1 && hold(&all, known) {
        return things.iter().map(|_| Verdict(None)).collect();
    }
    let alone = |thing: &&[SignedBy]| judge_alone(thing, known);
    things.iter().map(alone).collect()
}

fn hold(all: &[&SignedBy], known: &mut KnownKeys) -> bool {
    let mut parts = all.chunks(TOGETHER_MAX);
    parts.all(|part| SignedBy::all_verify(part.iter().copied(), known))
}

/// The first signature comes first: where it is the author's, nothing else of what a stranger has made up is looked at.
fn judge_alone(claims: &[SignedBy], known: &mut KnownKeys) -> Verdict {
    let mut holds = |part: &[SignedBy]| SignedBy::all_verify(part, known);
    let (first, rest) = claims.split_at_checked(1).unwrap_or((&[], claims));
    if !holds(first) {
        return Verdict(Some(0));
    }
    let mut before = 1_usize;
    for part in rest.chunks(TOGETHER_MAX) {
        if !holds(part)
            && let Some(bad) = part
                .iter()
                .position(|claim| !holds(core::slice::from_ref(claim)))
        {
            return Verdict(Some(before.saturating_add(bad)));
        }
        before = before.saturating_add(part.len());
    }
    Verdict(None)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use barfs_crypto::SigningKey;

    use super::*;

    /// Signatures of several keys, those at `bad` over something else.
    fn signed(count: u8, bad: &[u8]) -> Vec<SignedBy> {
        let signed = (0..count).map(|i| {
            let key = SigningKey::from_seed([i % 3; 32]);
            let said: &[u8] = if bad.contains(&i) { b"other" } else { b"this" };
            SignedBy::new(key.id(), "test", b"this", key.sign("test", said))
        });
        signed.collect()
    }

    fn together(things: &[Vec<SignedBy>]) -> Vec<Verdict> {
        let things: Vec<&[SignedBy]> = things.iter().map(Vec::as_slice).collect();
        verify_together(&things, &mut KnownKeys::default())
    }

    #[test]
    fn each_is_judged_by_what_it_brought() {
        let good = || signed(5, &[]);
        assert_eq!(together(&[]), vec![]);
        assert!(
            together(&[good(), vec![], good()])
                .iter()
                .all(|it| it.holds())
        );
        let found = together(&[good(), signed(4, &[0, 2]), good(), signed(9, &[8]), vec![]]);
        let expected = [None, Some(0), None, Some(8), None];
        assert_eq!(found, expected.map(Verdict));
        assert_eq!(together(&[signed(200, &[123, 150])]), [Verdict(Some(123))]);
    }

    #[test]
    fn the_error_is_that_of_the_first_that_does_not_hold() {
        let mut claims = Claims::default();
        let mut part = Claims::default();
        for (index, claim) in signed(6, &[4, 5]).into_iter().enumerate() {
            match index < 3 {
                true => claims.add(claim, (0, index)),
                false => part.add(claim, index),
            }
        }
        claims.append(part, |index| (1, index));
        let found = together(&[claims.all().to_vec()]);
        assert_eq!(claims.verify(), Err((1, 4)));
        let unverified = Unverified::new("it", claims);
        let others: Vec<_> = found
            .into_iter()
            .map(|it| unverified.clone().judged(it))
            .collect();
        assert_eq!(others, [Err((1, 4))]);
        assert_eq!(unverified.judged(Verdict(None)), Ok("it"));
    }
}
