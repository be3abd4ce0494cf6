//! What must be unique in a cluster and is handed out when disks are generated: UUIDs, DRBD ports, minors and secrets.

use std::convert::Infallible;
use std::error::Error;

use gnt_config::Secret;
use uuid::Uuid;

/// Length of a DRBD secret in bytes (`constants.DRBD_SECRET_LENGTH`); it is written as twice as many hexadecimal digits.
pub const DRBD_SECRET_LENGTH: usize = 20;

/// The numbers that a drbd disk has for itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrbdNumbers {
    /// TCP port of the replication link, no other disk's in the cluster.
    pub port: u16,
    /// Minor numbers on the two nodes, in their order, no other disk's on that node.
    pub minors: [u32; 2],
}

/// Where generated disks get what must be unique.
pub trait Ids {
    /// Why no DRBD numbers could be had.
    type Error: Error + Send + Sync + 'static;

    /// An id that nothing else has: a UUID (`ConfigWriter.GenerateUniqueID`).
    fn unique_id(&mut self) -> String;

    /// Reserves port and minors for the drbd disk with UUID `disk` on `nodes` (`AllocatePort`, `AllocateDRBDMinor`).
    fn drbd(&mut self, disk: &str, nodes: [&str; 2]) -> Result<DrbdNumbers, Self::Error>;

    /// A new secret of a replication link (`GenerateDRBDSecret`).
    fn secret(&mut self) -> Secret;
}

/// Random UUIDs and secrets; DRBD numbers from `reserve`, which is called with the disk's UUID and its two nodes.
pub struct RandomIds<F> {
    reserve: F,
}

impl<F, E> RandomIds<F>
where
    F: FnMut(&str, [&str; 2]) -> Result<DrbdNumbers, E>,
    E: Error + Send + Sync + 'static,
{
    /// Ids whose DRBD numbers come from `reserve`, such as the store's on behalf of one operation.
    pub fn new(reserve: F) -> Self {
        Self { reserve }
    }
}

impl<F, E> Ids for RandomIds<F>
where
    F: FnMut(&str, [&str; 2]) -> Result<DrbdNumbers, E>,
    E: Error + Send + Sync + 'static,
{
    type Error = E;

    fn unique_id(&mut self) -> String {
        Uuid::new_v4().to_string()
    }

    fn drbd(&mut self, disk: &str, nodes: [&str; 2]) -> Result<DrbdNumbers, E> {
        (self.reserve)(disk, nodes)
    }

    fn secret(&mut self) -> Secret {
        new_secret()
    }
}

/// A random secret of a replication link (`GenerateDRBDSecret`).
pub fn new_secret() -> Secret {
    let digits = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    // Of a UUID's 32 digits, those at 12 and 16 say what kind it is; the others are random.
    let random = digits
        .char_indices()
        .filter(|(at, _)| !matches!(at % 32, 12 | 16));
    let secret = random.map(|(_, digit)| digit).take(2 * DRBD_SECRET_LENGTH);
    Secret::new(secret.collect::<String>())
}

/// Ids in order, for tests and simulations: `id0`, `id1`, …; ports from 11000, minors from 0; the secret is `sekrit`.
#[derive(Debug, Clone)]
pub struct SequentialIds {
    next_id: u64,
    next_port: u16,
    next_minor: u32,
}

impl Default for SequentialIds {
    fn default() -> Self {
        Self {
            next_id: 0,
            next_port: 11_000,
            next_minor: 0,
        }
    }
}

impl Ids for SequentialIds {
    type Error = Infallible;

    fn unique_id(&mut self) -> String {
        let id = self.next_id;
        self.next_id += 1;
        format!("id{id}")
    }

    fn drbd(&mut self, _disk: &str, _nodes: [&str; 2]) -> Result<DrbdNumbers, Infallible> {
        let numbers = DrbdNumbers {
            port: self.next_port,
            minors: [self.next_minor, self.next_minor + 1],
        };
        self.next_port = self.next_port.wrapping_add(1);
        self.next_minor += 2;
        Ok(numbers)
    }

    fn secret(&mut self) -> Secret {
        Secret::new("sekrit")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn without_drbd() -> impl Ids {
        RandomIds::new(|_, _| -> Result<DrbdNumbers, Infallible> { unreachable!("not asked for") })
    }

    #[test]
    fn random_ids_are_uuids_and_differ() {
        let mut ids = without_drbd();
        let drawn: HashSet<String> = (0..1000).map(|_| ids.unique_id()).collect();
        assert_eq!(drawn.len(), 1000);
        for id in drawn {
            assert_eq!(Uuid::parse_str(&id).map(|id| id.get_version_num()), Ok(4), "{id}");
        }
    }

    #[test]
    fn every_bit_of_a_secret_is_random() {
        let mut ids = without_drbd();
        let (mut ones, mut zeros) = ([0u8; DRBD_SECRET_LENGTH], [0u8; DRBD_SECRET_LENGTH]);
        for _ in 0..200 {
            let secret = ids.secret();
            let digits = secret.expose();
            assert_eq!(digits.len(), 2 * DRBD_SECRET_LENGTH);
            for at in 0..DRBD_SECRET_LENGTH {
                let byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
                ones[at] |= byte;
                zeros[at] |= !byte;
            }
        }
        assert_eq!(
            (ones, zeros),
            ([0xff; DRBD_SECRET_LENGTH], [0xff; DRBD_SECRET_LENGTH])
        );
    }

    #[test]
    fn drbd_numbers_come_from_where_the_caller_says() {
        let mut asked = Vec::new();
        let mut ids = RandomIds::new(|disk: &str, nodes: [&str; 2]| {
            asked.push(format!("{disk} {nodes:?}"));
            Err::<DrbdNumbers, _>(std::io::Error::other("no port is free"))
        });
        assert_eq!(
            ids.drbd("uuid", ["a", "b"]).map_err(|error| error.to_string()),
            Err("no port is free".to_owned())
        );
        assert_eq!(asked, [r#"uuid ["a", "b"]"#]);
    }
}
