//! Whether weights are signed by who they should be: signatures in OpenSSH's form, since `ssh-keygen -Y sign`
//! is everywhere, takes keys that people have, and hashes files of any size before it signs.
//!
//! The form is told in OpenSSH's PROTOCOL.sshsig: what is signed is `SSHSIG`, the namespace, a reserved
//! text, the name of the hash, and the hash of the file, each but the first with its length before it.
//! The namespace is `file`, as the manual of ssh-keygen suggests for files.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pilotage_plan::Signer;
use pilotage_shell::files;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::choice::{SUMS, SUMS_SIGNATURE};
use super::hash::{self, Beside, Hashes};
use super::listing::{self, Listed};

/// Most bytes of a signature's file: an Ed25519 signature has about 300.
pub(super) const SIGNATURE_BYTES_MAX: usize = 16 << 10;

/// Most bytes of a list of files.
const SUMS_BYTES_MAX: u64 = 4 << 20;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const NAMESPACE: &[u8] = b"file";
const ALGORITHM: &[u8] = b"ssh-ed25519";

/// Checks a signature over a file that was hashed, with SHA-512 among it.
///
/// # Errors
/// It is none, or not of that file by that signer.
pub(super) fn check(signer: &Signer, hashes: &Hashes, armoured: &[u8]) -> Result<(), String> {
    let blob = unarmour(armoured).ok_or("the signature is not one of `ssh-keygen -Y sign`")?;
    let signature = Signature::read(&blob).ok_or("the signature makes no sense")?;
    if signature.key != signer.blob() {
        return Err("another key signed it".to_owned());
    }
    if signature.namespace != NAMESPACE {
        return Err(
            "it is signed for another purpose; sign with `ssh-keygen -Y sign -n file`".to_owned()
        );
    }
    let hash: &[u8] = match signature.hash {
        b"sha512" => hashes.sha512.as_deref().ok_or("the file was not hashed")?,
        b"sha256" => hashes.sha256.bytes(),
        _ => return Err("its hash is neither sha512 nor sha256".to_owned()),
    };
    let mut signed = MAGIC.to_vec();
    for part in [signature.namespace, signature.reserved, signature.hash, hash] {
        signed.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        signed.extend_from_slice(part);
    }
    UnparsedPublicKey::new(&ED25519, signer.bytes())
        .verify(&signed, signature.bytes)
        .map_err(|_| "the signature is not of this content".to_owned())
}

/// Checks the signature of a folder: over a list of its files, in which each must stand as it is.
///
/// # Errors
/// It is missing or wrong, or a file is not what was signed.
pub(super) async fn check_folder(
    signer: &Signer,
    folder: &Path,
    listed: &[Listed],
) -> Result<(), String> {
    let told = |name: &'static str| move |error: std::io::Error| format!("{name}: {error}");
    let sums = files::read_bounded(&folder.join(SUMS), SUMS_BYTES_MAX).map_err(told(SUMS))?;
    let armoured = files::read_bounded(&folder.join(SUMS_SIGNATURE), SIGNATURE_BYTES_MAX as u64)
        .map_err(told(SUMS_SIGNATURE))?;
    let hashes = hash::of(&folder.join(SUMS), Beside { sha512: true, git_blob: false }, None).await;
    check(signer, &hashes.map_err(told(SUMS))?, &armoured)?;
    let sums = str::from_utf8(&sums).ok().and_then(listing::parse);
    let sums = sums.ok_or_else(|| format!("{SUMS} is no list as `sha256sum` prints it"))?;
    for file in listed.iter().filter(|file| ![SUMS, SUMS_SIGNATURE].contains(&&*file.path)) {
        match sums.get(file.path.as_str()) {
            None => return Err(format!("{} is not in {SUMS}", file.path)),
            Some(sum) if *sum != file.sha256 => {
                return Err(format!("{} is not what {SUMS} says", file.path));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The parts of a signature.
struct Signature<'a> {
    key: &'a [u8],
    namespace: &'a [u8],
    reserved: &'a [u8],
    hash: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Signature<'a> {
    fn read(blob: &'a [u8]) -> Option<Self> {
        let mut rest = blob.strip_prefix(MAGIC)?;
        if number(&mut rest)? != VERSION {
            return None;
        }
        let [key, namespace, reserved, hash, mut signature] = [
            text(&mut rest)?,
            text(&mut rest)?,
            text(&mut rest)?,
            text(&mut rest)?,
            text(&mut rest)?,
        ];
        let algorithm = text(&mut signature)?;
        let bytes = text(&mut signature)?;
        let whole = rest.is_empty() && signature.is_empty() && algorithm == ALGORITHM;
        whole.then_some(Self { key, namespace, reserved, hash, bytes })
    }
}

fn unarmour(armoured: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(armoured).ok()?;
    let inner = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let packed: String = inner.split_ascii_whitespace().collect();
    STANDARD.decode(packed).ok()
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_be_bytes(*head))
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use pilotage_plan::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::weights::hash::{self, Beside};

    /// Made with `ssh-keygen -t ed25519` and `ssh-keygen -Y sign -n file` over the text `hello` and a
    /// line's end; the second with `-O hashalg=sha256`, the third with another namespace.
    const KEY: &str = include_str!("tests/signed/key.pub");
    const SHA512: &str = include_str!("tests/signed/hello.sha512.sig");
    const SHA256: &str = include_str!("tests/signed/hello.sha256.sig");
    const MAIL: &str = include_str!("tests/signed/hello.mail.sig");

    async fn hashes(content: &str) -> Hashes {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, content).unwrap();
        hash::of(&path, Beside { sha512: true, git_blob: false }, None).await.unwrap()
    }

    #[tokio::test]
    async fn signatures_of_ssh_keygen_are_understood() {
        let signer: Signer = KEY.parse().unwrap();
        let (hello, other) = (hashes("hello\n").await, hashes("hallo\n").await);
        let try_out = |hashes: &Hashes, armoured: &str, expect: Option<&str>| {
            let said = check(&signer, hashes, armoured.as_bytes()).err();
            assert_eq!(said.is_some(), expect.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(expect.unwrap_or_default()));
        };
        try_out(&hello, SHA512, None);
        try_out(&hello, SHA256, None);
        try_out(&hello, &SHA512.replace('\n', "\r\n"), None);
        try_out(&other, SHA512, Some("not of this content"));
        try_out(&other, SHA256, Some("not of this content"));
        try_out(&hello, MAIL, Some("another purpose"));
        try_out(&hello, "", Some("not one of"));
        try_out(&hello, KEY, Some("not one of"));
        try_out(&hello, &format!("{BEGIN}\nU1NIU0lH\n{END}\n"), Some("makes no sense"));
        let stranger = Signer::from_bytes([7; 32]);
        let said = check(&stranger, &hello, SHA512.as_bytes()).unwrap_err();
        assert_eq!(said, "another key signed it");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut blob in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Signature::read(&blob);
            blob.splice(0..0, [MAGIC, &[0, 0, 0, 1]].concat());
            let _ = Signature::read(&blob);
            let hashes = Hashes {
                size_bytes: 0,
                sha256: Digest::from_bytes([0; 32]),
                sha512: None,
                git_blob: None,
            };
            let armoured = format!("{BEGIN}\n{}\n{END}", STANDARD.encode(&blob));
            prop_assert!(check(&Signer::from_bytes([1; 32]), &hashes, armoured.as_bytes()).is_err());
        }
    }
}
