//! Names that say what is secret, whatever the service.
//!
//! Owns the two lists. Pure.

/// How the names of members end that hold secrets, whatever the service. Case does not count, nor do `-` and `_`.
const SECRET: &[&str] = &[
    "password",
    "passphrase",
    "secret",
    "secretstring",
    "secretbinary",
    "secretaccesskey",
    "privatekey",
    "plaintext",
    "userdata",
    // Whatever it is for: a new one is taken for a secret until it is listed below.
    "token",
];

/// Tokens that open nothing: they say where a list goes on, that a request is the same as before, or which version is
/// meant. Whole names.
const HARMLESS: &[&str] = &[
    "nexttoken",
    "nextpagetoken",
    "pagetoken",
    "paginationtoken",
    "continuationtoken",
    "nextcontinuationtoken",
    "startingtoken",
    "previoustoken",
    "nextforwardtoken",
    "nextbackwardtoken",
    "nextchunktoken",
    "nextmessagetoken",
    "clienttoken",
    "clientrequesttoken",
    "lastclientrequesttoken",
    "amznclienttoken",
    "idempotencytoken",
    "creationtoken",
    "requesttoken",
    "uniquerequesttoken",
    "changetoken",
    "updatetoken",
    "versiontoken",
    "locktoken",
    "nextlocktoken",
    "webacllocktoken",
    "nextwebacllocktoken",
    "sequencetoken",
    "nextsequencetoken",
    "expectedsequencetoken",
    "uploadsequencetoken",
];

/// Whether what has this name is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    is_secret_bytes(name.as_bytes())
}

/// As [`is_secret`], of a name that need not be text. Most names are told by their last letter alone.
pub(super) fn is_secret_bytes(name: &[u8]) -> bool {
    let mut last = letters(name).rev();
    if !last.next().is_some_and(|b| matches!(b, b'd' | b'e' | b't' | b'g' | b'y' | b'a' | b'n')) {
        return false;
    }
    let ends = |end: &&str| {
        let mut name = letters(name).rev();
        end.bytes().rev().all(|b| name.next() == Some(b))
    };
    SECRET.iter().any(ends) && !HARMLESS.iter().any(|harmless| letters(name).eq(harmless.bytes()))
}

fn letters(name: &[u8]) -> impl DoubleEndedIterator<Item = u8> {
    name.iter().filter(|b| !matches!(b, b'-' | b'_')).map(u8::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_letter_rules_none_out_that_is_listed() {
        assert!(SECRET.iter().all(|end| is_secret(end)), "the first look must let each ending pass");
    }
}
