//! Lines that invite, and what proves them.

use zeroize::Zeroizing;

use super::epoch::node;
use crate::codec::Canonical;
use crate::id::{ClusterId, InviteId, NodeId, TextError, hex};
use crate::layout::epoch::{Grant, Role};
use crate::node::invite::{Invite, InviteKey, prove};

fn grant() -> Grant {
    let invite = InviteId::new([1; 16]);
    Grant { invite, role: Role::Storage, cap: 5, expires_ms: 1_800_000_000_000 }
}

fn invite(addrs: &[&str]) -> Invite {
    let key = InviteKey::new(Zeroizing::new([2; 32]));
    Invite {
        cluster: ClusterId::new([3; 32]),
        inviter: node(4),
        addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect(),
        grant: grant(),
        secret: key.secret(&ClusterId::new([3; 32]), &grant()),
    }
}

#[test]
fn a_line_comes_back_and_one_that_is_mistyped_does_not() {
    let long = format!("{}.example:65535", "x".repeat(80));
    for addrs in [&[][..], &[":3000"], &["first.example:3000", "[::1]:4000"], &[&long[..]; 4]] {
        let invite = invite(addrs);
        let line = invite.to_line();
        assert!(line.starts_with("dfsi1"), "{}", line.as_str());
        assert_eq!(line.parse::<Invite>(), Ok(invite.clone()));
        assert_eq!(format!(" {}\n", line.to_uppercase()).parse::<Invite>(), Ok(invite));
    }
    let line = invite(&[":3000"]).to_line();
    for at in [0, 5, 60, line.len() - 1] {
        let mut typed: Vec<char> = line.chars().collect();
        typed[at] = if typed[at] == 'q' { 'p' } else { 'q' };
        assert!(typed.into_iter().collect::<String>().parse::<Invite>().is_err(), "at {at}");
    }
    assert_eq!(line[..line.len() - 1].parse::<Invite>(), Err(TextError::Checksum));
    assert_eq!(node(1).to_string().parse::<Invite>(), Err(TextError::Prefix));
    assert_eq!("".parse::<Invite>(), Err(TextError::Checksum));
    assert!(!format!("{:?}", invite(&[])).contains("secret"));
}

#[test]
fn a_secret_is_of_one_grant_and_a_proof_of_one_session_and_node() {
    let key = InviteKey::new(Zeroizing::new([2; 32]));
    let cluster = ClusterId::new([3; 32]);
    let secret = key.secret(&cluster, &grant());
    assert_ne!(key.secret(&ClusterId::new([4; 32]), &grant()), secret);
    for other in [
        Grant { invite: InviteId::new([9; 16]), ..grant() },
        Grant { role: Role::Gateway, ..grant() },
        Grant { cap: 6, ..grant() },
        Grant { expires_ms: 1, ..grant() },
    ] {
        assert_ne!(key.secret(&cluster, &other), secret, "{other:?}");
    }
    assert_ne!(InviteKey::new(Zeroizing::new([7; 32])).secret(&cluster, &grant()), secret);
    let proof = prove(&secret, &[1; 32], &node(1));
    assert_ne!(prove(&secret, &[2; 32], &node(1)), proof);
    assert_ne!(prove(&secret, &[1; 32], &node(2)), proof);
    let unvouched = Grant { role: Role::Unvouched, ..grant() };
    assert!(Grant::from_canonical(unvouched.to_canonical()).is_err());
    assert_eq!(Grant::from_canonical(grant().to_canonical()), Ok(grant()));
}

/// The known answer of the page on the wire protocol.
#[test]
fn a_secret_and_its_proof_are_what_they_were() {
    let cluster = ClusterId::new([3; 32]);
    let secret = InviteKey::new(Zeroizing::new([2; 32])).secret(&cluster, &grant());
    let proof = prove(&secret, &[2; 32], &NodeId::new([3; 32]));
    let expected = "4ac7c5db9550ab8364d25bf2384a219bfd4e67b207d1e0e742ce9137a93bc80a";
    assert_eq!(hex(&secret[..]), expected);
    let expected = "2c118fc43b047d1f71ebd891aab6a66aa2c2def965cc8e09e499db587f5e347e";
    assert_eq!(hex(&proof), expected);
}
