//! A cluster's VTEPs move from the lists to custom resources and back: the agent never fights Cilium, costs no packet, and is not restarted.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnet::Ipv4Net;
use vtep_apiserver::ApiServer;
use vtep_core::{
    config::truth::Truth, datapath::grace_period::GRACE_PERIOD, diagnosis::Verdict, report::status::Status,
};
use vtep_lab::{Config, Lab, Vtep, VtepModel, vtep_entries};

use crate::{
    api::{self, api_server, start},
    configured_lab::{Source, keys_without_lists},
    support::{Agent, HEALTHY_WITHIN, all_healthy},
    traffic::Traffic,
};

const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// Time in which an agent that fought Cilium would act.
const SETTLED: Duration = GRACE_PERIOD.saturating_add(Duration::from_secs(1));

#[test]
fn to_objects_v2_and_back() -> Result<()> {
    migrate(Source::V2)
}

#[test]
fn to_objects_v2alpha1_and_back() -> Result<()> {
    migrate(Source::V2alpha1)
}

/// The successive values of each entry; `None` while there is no entry.
type Course = BTreeMap<Ipv4Net, Vec<Option<[u8; 16]>>>;

/// Looks at the VTEP map all the time.
struct Recorder {
    course: Arc<Mutex<Course>>,
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Recorder {
    fn start() -> Self {
        let course = Arc::new(Mutex::new(Course::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (sink, is_over) = (Arc::clone(&course), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let mut course = sink.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(entries) = vtep_entries(MASK) {
                    note(&mut course, &entries);
                }
                drop(course);
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { course, over, thread }
    }

    /// Does not look meanwhile: while Cilium starts, its map is gone, and then still empty.
    fn pause<T>(&self, act: impl FnOnce() -> T) -> T {
        let _course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
        act()
    }

    fn end(self) -> Result<Course> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the recorder ended")?;
        Ok(self.course.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn note(course: &mut Course, entries: &BTreeMap<Ipv4Net, [u8; 16]>) {
    for cidr in entries.keys() {
        course.entry(*cidr).or_default();
    }
    for (cidr, values) in course {
        let value = entries.get(cidr).copied();
        if values.last() != Some(&value) {
            values.push(value);
        }
    }
}

/// The lab as this migration sees it.
struct Migration {
    lab: Lab,
    server: ApiServer,
    source: Source,
    agent: Agent,
    planted: Vtep,
}

impl Migration {
    /// After this step the VTEPs come from there, the map has these entries, and both remain so.
    fn settles(&self, step: &str, truth: Truth, entries: &[Vtep]) -> Result<Status> {
        let first = entries.first().context("the VTEP that stays")?.cidr;
        let is_right = |status: &Status| {
            let vtep = status.vteps.iter().find(|vtep| vtep.cidr == first);
            status.config.truth == truth
                && status.datapath.in_sync
                && vtep.is_some_and(|vtep| vtep.verdict == Verdict::Healthy)
        };
        self.agent.wait_for(step, HEALTHY_WITHIN, is_right)?;
        thread::sleep(SETTLED);
        let status = self.agent.wait_for(step, HEALTHY_WITHIN, is_right)?;
        let wanted: BTreeMap<_, _> = entries.iter().map(|vtep| (vtep.cidr, vtep.value())).collect();
        let found = self.lab.cilium.entries()?;
        ensure!(found == wanted, "{step}: {found:?}\nlog:\n{}", self.agent.log().join("\n"));
        Ok(status)
    }

    fn plant(&self) -> Result<()> {
        self.lab.cilium.put_entry(self.planted.cidr, self.planted.value())
    }

    fn write_lists(&self, vteps: &[Vtep]) -> Result<()> {
        api::apply(&self.server, &Config::keys_for(vteps))
    }

    fn write_objects(&self, vteps: &[Vtep]) -> Result<()> {
        self.source.apply(&self.server, vteps)
    }
}

/// Sleeps, because it must last longer than the grace period in which Cilium acts alone.
fn migrate(source: Source) -> Result<()> {
    let lab = Lab::builder().fill_map(true).start()?;
    let server = api_server(&lab)?;
    server.serve_vtep(source.versions());
    let agent = start(&lab, &server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    let [first, second] = lab.topology.vteps()[..] else { anyhow::bail!("two VTEPs") };
    let moved = Vtep { endpoint: [10, 169, 72, 77].into(), ..second };
    let third = Vtep { cidr: "10.1.7.0/24".parse()?, ..moved };
    let planted = Vtep { cidr: "10.9.9.0/24".parse()?, ..moved };
    let mut of = Migration { lab, server, source, agent, planted };
    of.settles("lists only", Truth::Configmap, &[first, second])?;

    let traffic = Traffic::start(&of.lab)?;
    let recorder = Recorder::start();

    of.write_objects(&[first, moved])?;
    of.agent.wait_for("the objects are seen", HEALTHY_WITHIN, |status| !status.config.objects.is_empty())?;
    of.plant()?;
    let status = of.settles("objects beside a Cilium with lists", Truth::Configmap, &[first, second, planted])?;
    ensure!(has_rule(&status, "vtep-sources-both"), "{:?}", status.config.findings);

    of.lab.cilium.running.vtep_lists = false;
    of.lab.cilium.model = source.model();
    recorder.pause(|| {
        of.lab.cilium.start_reconciled(&[first, moved])?;
        of.plant()
    })?;
    let status = of.settles("a Cilium with objects beside lists", Truth::Crd, &[first, moved, planted])?;
    ensure!(has_rule(&status, "vtep-sources-both"), "{:?}", status.config.findings);

    api::apply(&of.server, &keys_without_lists())?;
    let status = of.settles("objects only", Truth::Crd, &[first, moved, planted])?;
    ensure!(!has_rule(&status, "vtep-sources-both"), "{:?}", status.config.findings);

    // Cilium is before the agent: it knows the change already.
    of.lab.cilium.reconcile(&[first, second, third])?;
    thread::sleep(GRACE_PERIOD / 2);
    of.write_objects(&[first, second, third])?;
    of.settles("a changed object", Truth::Crd, &[first, second, third, planted])?;

    // Cilium is after the agent: it is late with the change.
    of.write_objects(&[first])?;
    thread::sleep(GRACE_PERIOD / 2);
    of.lab.cilium.reconcile(&[first])?;
    of.settles("two endpoints deleted", Truth::Crd, &[first, planted])?;

    of.write_lists(&[first, second])?;
    let status = of.settles("lists again, which Cilium does not read", Truth::Crd, &[first, planted])?;
    ensure!(has_rule(&status, "vtep-sources-both"), "{:?}", status.config.findings);

    of.lab.cilium.running.vtep_lists = true;
    of.lab.cilium.model = VtepModel::Hash;
    recorder.pause(|| {
        of.lab.cilium.start()?;
        of.plant()
    })?;
    of.settles("a Cilium with lists again", Truth::Configmap, &[first, second, planted])?;

    of.write_objects(&[])?;
    let status = of.settles("lists only again", Truth::Configmap, &[first, second, planted])?;
    ensure!(!has_rule(&status, "vtep-sources-both"), "{:?}", status.config.findings);

    let course = recorder.end()?;
    traffic.end()?;
    // Cilium's own acts, one by one, and nothing between them.
    let entry = |vtep: Vtep| Some(vtep.value());
    let expected: Course = [
        (first.cidr, vec![entry(first)]),
        (second.cidr, vec![entry(second), entry(moved), entry(second), None, entry(second)]),
        (third.cidr, vec![entry(third), None]),
        (planted.cidr, vec![entry(planted)]),
    ]
    .into();
    ensure!(course == expected, "{course:?}\nlog:\n{}", of.agent.log().join("\n"));
    Ok(())
}

fn has_rule(status: &Status, rule: &str) -> bool {
    status.config.findings.iter().any(|finding| finding.rule.id() == rule)
}
