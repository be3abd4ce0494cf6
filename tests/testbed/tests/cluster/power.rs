//! Nodes that lose their power while an instance is migrated, and how it is mended.

use std::thread;

use crate::drbd::{halves_are_alike, is_only_on};
use crate::harness::{Cluster, Done, Node, Running, until};

/// Ends when a mirror is connected in another way, or a node has or may have another role.
const UNTIL_DRBD_CHANGES: &str =
    "state() { grep -o 'cs:[^ ]* ro:[^ ]*' /proc/drbd; drbdsetup show | grep two-primaries; }
    before=$(state)
    for i in $(seq 1000); do [ \"$(state)\" = \"$before\" ] || exit 0; done
    exit 1";

/// When the power is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Prepare,
    Transfer,
    Finish,
    Abort,
    Cleanup,
}

/// Who loses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Source,
    Target,
    Manager,
}

/// An instance on two of three nodes.
struct Case<'a> {
    cluster: &'a Cluster,
    web: &'a Running<'a>,
    source: Node<'a>,
    target: Node<'a>,
}

#[test]
#[ignore = "takes minutes: make test-cluster"]
fn power_is_lost_in_each_phase_of_a_migration() -> Done {
    let cluster = Cluster::start("cluster-power", 3, "drbd", |plan| plan)?;
    let pair = [cluster.node(2), cluster.node(3)];
    cluster.disk("add web -t drbd -n n2:n3 --disk 0:size=64M")?;
    cluster.disk("activate web")?;
    cluster.synced("web")?;
    let web = cluster.machine("web", &pair)?;
    web.start(pair[0])?;
    for victim in [Victim::Source, Victim::Target, Victim::Manager] {
        for phase in [
            Phase::Prepare,
            Phase::Transfer,
            Phase::Finish,
            Phase::Abort,
            Phase::Cleanup,
        ] {
            let listed = cluster.json("list web")?;
            let source = cluster.named(listed[0]["pnode"].as_str().unwrap());
            let target = pair
                .into_iter()
                .find(|node| node.name() != source.name())
                .unwrap();
            let case = Case {
                cluster: &cluster,
                web: &web,
                source,
                target,
            };
            web.machine.goes_on(20)?;
            case.migrate_until(phase, victim)?;
            case.mend(phase, victim)?;
            web.machine.goes_on(20)?;
            cluster.synced("web")?;
            cluster.is_as_configured()?;
        }
    }
    let runs_on = pair
        .into_iter()
        .find(|node| web.machine.runs_on(node.name()))
        .unwrap();
    web.stop(runs_on)?;
    is_only_on(&cluster, "web", runs_on)?;
    web.is_whole_on(runs_on)?;
    halves_are_alike(&cluster, "web", pair)?;
    cluster.disk("deactivate web")?;
    cluster.disk("remove web")?;
    cluster.is_as_configured()
}

impl<'a> Case<'a> {
    fn victim(&self, victim: Victim) -> Node<'a> {
        match victim {
            Victim::Source => self.source,
            Victim::Target => self.target,
            Victim::Manager => self.cluster.manager(),
        }
    }

    /// Migrates, and cuts the power of a node in this phase.
    fn migrate_until(&self, phase: Phase, victim: Victim) -> Done {
        let (manager, machine) = (self.cluster.manager(), &self.web.machine);
        let victim = self.victim(victim);
        let witness = [self.source, self.target]
            .into_iter()
            .find(|node| node.name() != victim.name());
        let witness = witness.unwrap();
        let cut_during = |command: &str| {
            thread::scope(|scope| {
                let changes = scope.spawn(|| witness.ok(UNTIL_DRBD_CHANGES));
                // Whatever becomes of it.
                let running = scope.spawn(|| manager.run(command).map(|output| output.to_string()));
                changes.join().unwrap()?;
                victim.power_cut()?;
                let ended = running.join().unwrap();
                eprintln!("{phase:?} without {}: {command}: {ended:?}", victim.name());
                Ok(())
            })
        };
        if phase == Phase::Prepare {
            return cut_during("migrate web --prepare");
        }
        self.cluster.disk("migrate web --prepare")?;
        match phase {
            Phase::Prepare | Phase::Transfer => victim.power_cut(),
            // The machine stayed where it was.
            Phase::Abort => cut_during("migrate web --abort"),
            Phase::Finish => {
                machine.hand_over(self.source.name(), self.target.name())?;
                cut_during("migrate web --finish")
            }
            Phase::Cleanup => {
                machine.hand_over(self.source.name(), self.target.name())?;
                cut_during(&format!("migrate web --cleanup --runs-on {}", self.target.name()))
            }
        }
    }

    /// What an administrator does then.
    fn mend(&self, phase: Phase, victim: Victim) -> Done {
        let (cluster, machine) = (self.cluster, &self.web.machine);
        let dead = self.victim(victim);
        let runs_on = match phase {
            Phase::Prepare | Phase::Transfer | Phase::Abort => self.source,
            Phase::Finish | Phase::Cleanup => self.target,
        };
        if victim == Victim::Manager {
            dead.boot()?;
            let shown = cluster.json_any("info --static web")?;
            if shown["migration"].is_object() {
                cluster.disk(&format!("migrate web --cleanup --runs-on {}", runs_on.name()))?;
            }
            return is_only_on(cluster, "web", runs_on);
        }
        if dead.name() != runs_on.name() {
            // The instance has not noticed.
            machine.goes_on(20)?;
            self.without(dead, runs_on)?;
            machine.goes_on(20)?;
        } else {
            let mut pair = [self.source, self.target].into_iter();
            let other = pair.find(|node| node.name() != dead.name()).unwrap();
            machine.died(dead.name())?;
            self.without(dead, other)?;
            // The mirror was never apart while both were there.
            self.web.is_whole_on(other)?;
            self.web.start(other)?;
            machine.goes_on(20)?;
        }
        self.comes_back(dead)
    }

    /// Ends the migration on a node without the other one, which is off.
    fn without(&self, dead: Node<'_>, runs_on: Node<'_>) -> Done {
        self.cluster
            .disk(&format!("node modify {} --offline yes", dead.name()))?;
        let shown = self.cluster.json_any("info --static web")?;
        let (status, command) = match shown["migration"].is_object() {
            true => (3, format!("migrate web --cleanup --runs-on {}", runs_on.name())),
            false if shown["pnode"] == dead.name() => (3, "failover web".to_owned()),
            false => return Ok(()),
        };
        self.cluster.ends(status, &command)?;
        Ok(())
    }

    fn comes_back(&self, dead: Node<'_>) -> Done {
        dead.boot()?;
        self.web.spawn(dead)?;
        self.cluster
            .disk(&format!("node modify {} --offline no", dead.name()))?;
        self.cluster.ends_well("activate web")?;
        // The link that the node had is still there.
        self.cluster.ends_well("verify --repair")?;
        let listed = self.cluster.json("list web")?;
        assert_ne!(listed[0]["pnode"], dead.name());
        until("no split brain", || {
            let states =
                self.cluster.node(2).ok("cat /proc/drbd")? + &self.cluster.node(3).ok("cat /proc/drbd")?;
            assert!(!states.contains("StandAlone"), "{states}");
            Ok(states.matches("cs:Connected").count() == 2)
        })
    }
}
