//! What is wrong in a world, each with the truth about it; and what only looks wrong.

use super::World;
use super::base::{Names, call, call_to, entry, front_ends, operation, plain, query, service, store_call};
use super::program::{Call, Convention, Count, Statement, Step, Store, Target, When, exactly_us, us};
use crate::rng::Rng;
use crate::score::Problem;

const WEIGHT: u64 = 6;

struct Planter<'a> {
    world: &'a mut World,
    names: Names,
    rng: &'a mut Rng,
}

pub fn problems(world: &mut World, rng: &mut Rng) {
    let names = Names::new(world, rng);
    let mut planter = Planter { world, names, rng };
    planter.n_plus_one();
    planter.fan_out();
    planter.silent();
    planter.rare();
    planter.misattributed();
    planter.hidden();
    planter.retries();
}

pub fn look_alikes(world: &mut World, rng: &mut Rng) {
    let names = Names::new(world, rng);
    let mut planter = Planter { world, names, rng };
    for kind in 0..LOOK_ALIKES {
        // Not each world has all of them.
        if planter.rng.chance(0.6) {
            planter.look_alike(kind);
        }
    }
}

const LOOK_ALIKES: u64 = 22;

impl Planter<'_> {
    fn ms(&mut self, low: u64, high: u64) -> super::program::Time {
        us(1000.0 * self.rng.between(low, high) as f64)
    }

    fn service(&mut self) -> usize {
        let name = self.names.service();
        service(self.world, name, self.rng)
    }

    fn front(&mut self) -> usize {
        *self.rng.pick(&front_ends(self.world))
    }

    fn page(&mut self, steps: Vec<Step>) -> usize {
        let front = self.front();
        entry(self.world, front, &mut self.names, WEIGHT, steps, self.rng)
    }

    fn answer(&mut self, service: usize, steps: Vec<Step>) -> usize {
        let noun = self.names.noun();
        operation(self.world, service, "GET", &noun, steps)
    }

    fn name(&self, service: usize) -> String {
        self.world.services[service].name.clone()
    }

    fn own_query(&mut self, service: usize, statement: Statement, noun: &str, low: u64, high: u64) -> Step {
        let time = self.ms(low, high);
        query(self.world.services[service].store, statement, noun, time)
    }

    /// A call of any kind that a loop may repeat, and a word that its operation has.
    fn repeated(&mut self, caller: usize) -> (Vec<Step>, String) {
        let noun = self.names.noun();
        let store = self.world.services[caller].store;
        let time = self.ms(2, 6);
        match self.rng.between(0, 7) {
            0 | 1 => (vec![query(store, Statement::ById, &noun, time)], noun),
            // A connection for each, and then the query.
            2 => {
                let connect = query(store, Statement::Connect, &noun, us(150.0));
                (vec![connect, query(store, Statement::ById, &noun, time)], noun)
            }
            3 => (vec![query(Store::Redis, Statement::ById, &noun, us(1_200.0))], noun),
            4 => (vec![query(Store::Mongo, Statement::ById, &noun, time)], noun),
            5 => {
                let topic = format!("{noun}-updated");
                (vec![Step::Call(call_to(Target::Queue { topic: topic.clone(), consumer: None }, us(1_500.0)))], topic)
            }
            _ => {
                let callee = self.service();
                let steps = vec![Step::Work(us(300.0)), self.own_query(callee, Statement::ById, &noun, 1, 3)];
                let answers = operation(self.world, callee, "GET", &noun, steps);
                let word = match self.world.services[callee].uses_rpc {
                    true => noun[1..].to_owned(),
                    false => noun,
                };
                (vec![call(answers)], word)
            }
        }
    }

    fn n_plus_one(&mut self) {
        let caller = self.service();
        let (mut body, word) = self.repeated(caller);
        for _ in 0..self.rng.between(0, 3).saturating_sub(1) {
            body = vec![Step::Span("Loader.load".to_owned(), body)];
        }
        let noun = self.names.noun();
        let first = self.own_query(caller, Statement::List, &noun, 2, 6);
        let count = if self.rng.chance(0.5) { Count::Size(6, 60) } else { Count::Between(8, 40) };
        let steps = vec![Step::Work(us(500.0)), first, Step::Loop(count, body), Step::Work(us(500.0))];
        let behind = self.answer(caller, steps);
        // The same behind one or two pages is one problem.
        for _ in 0..self.rng.between(1, 2) {
            self.page(vec![call(behind)]);
        }
        let caller = self.name(caller);
        self.world.problems.push(
            Problem::new("n_plus_one").is("/subject/caller/service", caller).has("/subject/callee/operation", word),
        );
    }

    fn fan_out(&mut self) {
        let caller = self.service();
        let (body, word) = loop {
            let (body, word) = self.repeated(caller);
            if body.len() == 1 {
                break (body, word);
            }
        };
        let steps = vec![Step::Work(us(500.0)), Step::Parallel(Count::Size(6, 30), body), Step::Work(us(500.0))];
        let behind = self.answer(caller, steps);
        self.page(vec![call(behind)]);
        let caller = self.name(caller);
        self.world
            .problems
            .push(Problem::new("fan_out").is("/subject/caller/service", caller).has("/subject/callee/operation", word));
    }

    fn silent(&mut self) {
        let (middle, end) = (self.service(), self.service());
        let noun = self.names.noun();
        // What takes its time is its store: long work beside a short query would be another finding.
        let heavy = {
            let own = self.own_query(end, Statement::ById, &noun, 30, 60);
            self.answer(end, vec![Step::Work(us(700.0)), own])
        };
        let end_name = self.name(end);
        let (place, name) = match self.rng.between(0, 3) {
            0 => {
                let host = format!("api.{}.example", self.names.noun());
                let time = self.ms(30, 80);
                let ask =
                    Step::Call(call_to(Target::Host { host: host.clone(), path: "/v1/lookup/{id}".to_owned() }, time));
                let own = self.own_query(middle, Statement::ById, &noun, 3, 8);
                let behind = self.answer(middle, vec![own, ask]);
                self.page(vec![call(behind)]);
                self.host_needs_attributes(middle);
                ("host", host)
            }
            1 => {
                // Three calls away.
                let between = self.service();
                let second = self.answer(between, vec![Step::Work(us(800.0)), call(heavy)]);
                let own = self.own_query(middle, Statement::ById, &noun, 2, 5);
                let first = self.answer(middle, vec![own, call(second)]);
                self.page(vec![call(first)]);
                ("service", end_name)
            }
            2 => {
                // Behind three pages, through three services.
                for _ in 0..3 {
                    let through = self.service();
                    let noun = self.names.noun();
                    let own = self.own_query(through, Statement::List, &noun, 3, 8);
                    let behind = self.answer(through, vec![call(heavy), own]);
                    self.page(vec![call(behind)]);
                }
                ("service", end_name)
            }
            _ => {
                let since = self.world.spec.traces * 6 / 10;
                let own = self.own_query(middle, Statement::List, &noun, 4, 9);
                let behind = self.answer(middle, vec![own, Step::If(When::Since(since), vec![call(heavy)])]);
                // Enough traces before it for the absence to mean something.
                let page = self.page(vec![call(behind)]);
                let own: u64 = WEIGHT * 3;
                if let Some(entry) = self.world.entries.iter_mut().find(|entry| entry.operation == page) {
                    entry.weight = own;
                }
                ("service", end_name)
            }
        };
        self.world.problems.push(Problem::new("silent_dependency").is(&format!("/subject/dependency/{place}"), name));
    }

    /// Without attributes a host is only part of a name.
    fn host_needs_attributes(&mut self, service: usize) {
        let service = &mut self.world.services[service];
        if service.convention == Convention::NamesWithoutKinds {
            service.convention = Convention::Names;
        }
    }

    fn rare(&mut self) {
        let middle = self.service();
        let noun = self.names.noun();
        let usual = self.own_query(middle, Statement::ById, &noun, 8, 15);
        let (slow, expected): (Step, Vec<&str>) = match self.rng.between(0, 3) {
            0 => {
                let timeout = *self.rng.pick(&[500_000.0, 1_000_000.0, 1_500_000.0, 2_000_000.0, 5_000_000.0]);
                let host = format!("bank.{}.example", self.names.noun());
                let ask = call_to(Target::Host { host, path: "/pay".to_owned() }, exactly_us(timeout));
                (Step::If(When::Trait("app.card", "old".to_owned()), vec![Step::Call(ask)]), vec!["app.card"])
            }
            1 => {
                let time = self.ms(200, 400);
                let slow = query(self.world.services[middle].store, Statement::List, &self.names.noun(), time);
                (Step::If(When::Trait("app.partner", "acme".to_owned()), vec![slow]), vec!["app.partner"])
            }
            2 => {
                // A branch that nothing of the request foretells.
                let legacy = self.service();
                let time = self.ms(200, 500);
                let answers = self.answer(legacy, vec![Step::Work(time)]);
                (Step::If(When::Chance(0.03), vec![call(answers)]), vec![])
            }
            _ => {
                let time = self.ms(200, 400);
                let span = Step::Span("Legacy.convert".to_owned(), vec![Step::Work(time)]);
                (Step::If(When::Trait("app.partner", "acme".to_owned()), vec![span]), vec!["app.partner"])
            }
        };
        let behind = self.answer(middle, vec![usual, slow]);
        let page = self.page(vec![call(behind)]);
        if let Some(entry) = self.world.entries.iter_mut().find(|entry| entry.operation == page) {
            entry.weight = WEIGHT * 4;
        }
        let route = self.word(page);
        let mut problem = Problem::new("slow_rare_path").has("/operation", route);
        for key in expected {
            problem = problem.mentions("/subject/where", key.to_owned());
        }
        self.world.problems.push(problem);
    }

    /// A word that an operation's name has, whatever the convention.
    fn word(&self, operation: usize) -> String {
        let route = &self.world.operations[operation].route;
        route.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned()
    }

    fn misattributed(&mut self) {
        let middle = self.service();
        let noun = self.names.noun();
        let time = self.ms(4, 8);
        let mut blamed: Call = store_call(self.world.services[middle].store, Statement::List, &noun, time);
        blamed.has_rows = true;
        let own = self.ms(50, 120);
        let (steps, part) = match self.rng.between(0, 3) {
            0 => (vec![Step::Call(blamed), Step::WorkPerItem(us(4_000.0))], "after"),
            1 => (vec![Step::Work(own), Step::Call(blamed)], "before"),
            2 => {
                let time = self.ms(4, 8);
                let second = query(self.world.services[middle].store, Statement::Insert, &noun, time);
                (vec![Step::Call(blamed), Step::Work(own), second], "between")
            }
            _ => {
                let callee = self.service();
                self.world.services[middle].has_client_spans = true;
                let noun = self.names.noun();
                let own_query = self.own_query(callee, Statement::ById, &noun, 3, 6);
                let answers = self.answer(callee, vec![own_query]);
                let mut far = call_to(Target::Operation(answers), us(0.0));
                far.wire = own;
                (vec![Step::Call(far)], "wire")
            }
        };
        let behind = self.answer(middle, steps);
        self.page(vec![call(behind)]);
        let name = self.name(middle);
        self.world.problems.push(
            Problem::new("misattributed_bottleneck")
                .is("/subject/actual/service", name)
                .is("/subject/actual/part", part.to_owned()),
        );
    }

    fn hidden(&mut self) {
        let (middle, end) = (self.service(), self.service());
        let noun = self.names.noun();
        let own = self.own_query(middle, Statement::List, &noun, 35, 50);
        let share = 0.05 + self.rng.unit() * 0.3;
        let (call_that_fails, born) = match self.rng.between(0, 2) {
            0 => {
                let noun = self.names.noun();
                let steps = vec![self.own_query(end, Statement::ById, &noun, 2, 6)];
                let answers = self.answer(end, steps);
                (call_to(Target::Operation(answers), us(0.0)), end)
            }
            1 => {
                // Born one deeper, and handed on.
                let last = self.service();
                let noun = self.names.noun();
                let steps = vec![self.own_query(last, Statement::ById, &noun, 1, 3)];
                let answers = self.answer(last, steps);
                let mut inner = call_to(Target::Operation(answers), us(0.0));
                inner.fails = When::Chance(share);
                let outer = self.answer(end, vec![Step::Work(us(500.0)), Step::Call(inner)]);
                (call_to(Target::Operation(outer), us(0.0)), last)
            }
            _ => {
                let time = self.ms(2, 6);
                (store_call(self.world.services[middle].store, Statement::Insert, &self.names.noun(), time), middle)
            }
        };
        let mut failing = call_that_fails;
        if born != end || !matches!(failing.target, Target::Operation(_)) {
            failing.fails =
                if matches!(failing.target, Target::Operation(_)) { When::Never } else { When::Chance(share) };
        } else {
            failing.fails = When::Chance(share);
        }
        failing.is_swallowed = true;
        let behind = self.answer(middle, vec![own, Step::Call(failing)]);
        self.page(vec![call(behind)]);
        let (born, by) = (self.name(born), self.name(middle));
        self.world.problems.push(
            Problem::new("hidden_error").is("/subject/born/service", born).is("/subject/swallowed_by/service", by),
        );
    }

    fn retries(&mut self) {
        let (middle, end) = (self.service(), self.service());
        let noun = self.names.noun();
        let own = self.own_query(end, Statement::ById, &noun, 3, 8);
        let answers = operation(self.world, end, "GET", &noun, vec![own]);
        let mut failing = call_to(Target::Operation(answers), us(0.0));
        failing.fails = When::Trait("app.flaky", "yes".to_owned());
        failing.is_swallowed = self.rng.chance(0.5);
        let attempts = self.rng.between(4, 6);
        let back_off = self.ms(2, 6);
        let listed = self.names.noun();
        let first = self.own_query(middle, Statement::List, &listed, 3, 6);
        let behind = self.answer(middle, vec![first, Step::Retry { call: failing, attempts, back_off }]);
        self.page(vec![call(behind)]);
        let caller = self.name(middle);
        self.world.problems.push(Problem::new("retry_storm").is("/subject/caller/service", caller));
    }

    fn look_alike(&mut self, kind: u64) {
        let middle = self.service();
        let noun = self.names.noun();
        let store = self.world.services[middle].store;
        let own = self.own_query(middle, Statement::List, &noun, 6, 14);
        let plain_behind = |planter: &mut Self| {
            let service = planter.service();
            plain(planter.world, service, &mut planter.names, planter.rng)
        };
        let steps = match kind {
            // A sequence that somebody wrote out.
            0 => {
                let time = self.ms(2, 4);
                let count = self.rng.between(4, 6);
                vec![own, Step::Loop(Count::Fixed(count), vec![query(store, Statement::ById, &noun, time)])]
            }
            // Pages of a list, by offset and by key.
            1 | 2 => {
                let time = self.ms(3, 8);
                let statement = if kind == 1 { Statement::Page } else { Statement::Keyset };
                if !matches!(self.world.services[middle].convention, Convention::Old | Convention::New) {
                    self.world.services[middle].convention = Convention::Names;
                }
                vec![own, Step::Loop(Count::Between(5, 12), vec![query(store, statement, &noun, time)])]
            }
            // Pages of a partner's list.
            3 => {
                self.host_needs_attributes(middle);
                let target = Target::Host { host: "partner.example".to_owned(), path: format!("/{noun}?page={{id}}") };
                let ask = Step::Call(call_to(target, us(3_000.0)));
                // Called by the page's own service: known to it.
                let front = self.front();
                self.host_needs_attributes(front);
                let _ = entry(
                    self.world,
                    front,
                    &mut self.names,
                    WEIGHT,
                    vec![Step::Loop(Count::Between(5, 9), vec![ask])],
                    self.rng,
                );
                vec![own]
            }
            // Many calls that cost nothing to speak of.
            4 => {
                let time = self.ms(60, 90);
                let big = query(store, Statement::List, &noun, time);
                let cache = call_to(
                    Target::Store { store: Store::Redis, statement: Statement::ById, table: noun.clone() },
                    us(60.0),
                );
                let cache = Call { wire: us(30.0), ..cache };
                vec![big, Step::Loop(Count::Between(6, 14), vec![Step::Call(cache)])]
            }
            // Three or four at once.
            5 => {
                let behind: Vec<Vec<Step>> = (0..4).map(|_| vec![call(plain_behind(self))]).collect();
                vec![own, Step::Join(behind)]
            }
            6 => {
                let time = self.ms(4, 8);
                vec![own, Step::Parallel(Count::Fixed(4), vec![query(store, Statement::ById, &noun, time)])]
            }
            // One retry, and it works.
            7 => {
                let answers = plain_behind(self);
                let mut call = call_to(Target::Operation(answers), us(0.0));
                call.fails = When::Chance(0.06);
                call.is_swallowed = false;
                let back_off = self.ms(3, 6);
                vec![own, Step::Retry { call, attempts: 4, back_off }]
            }
            // Not found is an answer.
            8 => {
                let mut asks = call_to(
                    Target::Host { host: format!("{noun}.internal"), path: "/known/{id}".to_owned() },
                    us(900.0),
                );
                asks.fails = When::Chance(0.3);
                asks.is_expected = true;
                if !matches!(self.world.services[middle].convention, Convention::Old | Convention::New) {
                    self.world.services[middle].convention = Convention::New;
                }
                let time = self.ms(20, 30);
                vec![query(store, Statement::List, &noun, time), Step::Call(asks)]
            }
            // It fails and everybody hears of it.
            9 => {
                let mut failing = store_call(store, Statement::Insert, &noun, us(2_000.0));
                failing.fails = When::Chance(0.1);
                vec![own, Step::Call(failing)]
            }
            // The page's own payment partner and its own database.
            10 => {
                let front = self.front();
                let time = self.ms(40, 90);
                let target = Target::Host { host: "payments.example".to_owned(), path: "/charge/{id}".to_owned() };
                let ask = Step::Call(call_to(target, time));
                entry(self.world, front, &mut self.names, WEIGHT, vec![ask], self.rng);
                vec![own]
            }
            11 => {
                let front = self.front();
                let store = self.world.services[front].store;
                let time = self.ms(30, 60);
                let ask = query(store, Statement::List, &self.names.noun(), time);
                entry(self.world, front, &mut self.names, WEIGHT, vec![ask], self.rng);
                vec![own]
            }
            // Behind, and heavy, but only two calls away.
            12 => {
                let end = self.service();
                let time = self.ms(20, 40);
                let heavy = self.answer(end, vec![Step::Work(time)]);
                vec![own, call(heavy)]
            }
            // Far behind, and light.
            13 => {
                let (a, b) = (self.service(), self.service());
                let light = self.answer(b, vec![Step::Work(us(200.0))]);
                let between = self.answer(a, vec![Step::Work(us(500.0)), call(light)]);
                let time = self.ms(20, 40);
                vec![query(store, Statement::List, &noun, time), call(between)]
            }
            // A partner that hardly counts.
            14 => {
                let target = Target::Host { host: format!("{noun}.partner.example"), path: "/ping/{id}".to_owned() };
                let time = self.ms(30, 50);
                vec![query(store, Statement::List, &noun, time), Step::Call(call_to(target, us(700.0)))]
            }
            // Shared, by two pages only.
            15 => {
                let end = self.service();
                let time = self.ms(15, 25);
                let heavy = self.answer(end, vec![Step::Work(time)]);
                let other = self.service();
                let through = self.answer(other, vec![Step::Work(us(700.0)), call(heavy)]);
                self.page(vec![call(through)]);
                vec![own, call(heavy)]
            }
            // Slow by chance.
            16 => {
                let time = self.ms(200, 400);
                vec![own, Step::If(When::Chance(0.02), vec![Step::Work(time)])]
            }
            // Slow, and a fifth of all: everybody sees it.
            17 => {
                let time = self.ms(80, 160);
                vec![
                    own,
                    Step::If(When::Chance(0.2), vec![Step::Span("Export.build".to_owned(), vec![Step::Work(time)])]),
                ]
            }
            // Rare, and no slower.
            18 => {
                let answers = plain_behind(self);
                vec![own, Step::If(When::Chance(0.03), vec![call(answers)])]
            }
            // The query is what takes the time.
            19 => {
                let time = self.ms(80, 150);
                vec![query(store, Statement::List, &noun, time), Step::Work(us(9_000.0))]
            }
            // Nobody waits for it.
            20 => {
                let time = self.ms(100, 200);
                let end = self.service();
                let late = self.answer(end, vec![Step::Work(time)]);
                vec![own, Step::Detached(vec![call(late)])]
            }
            // A message, and what is done with it later.
            _ => {
                let consumer_service = self.service();
                let noun = self.names.noun();
                let consumes =
                    vec![Step::Work(us(2_000.0)), self.own_query(consumer_service, Statement::Insert, &noun, 5, 10)];
                let consumer = Some(operation(self.world, consumer_service, "POST", &noun, consumes));
                vec![own, Step::Call(call_to(Target::Queue { topic: format!("{noun}-placed"), consumer }, us(900.0)))]
            }
        };
        let behind = self.answer(middle, steps);
        self.page(vec![call(behind)]);
    }
}
