'use strict';

// The dashboard of zmqd. All text from peers is hostile: it becomes text nodes only.

const EVERY_MS = 2000;
const ANSWER_MS = 8000;
const PAGE = 50;
const FEW = 8;
const HOUR_S = 3600;
const SVG = 'http://www.w3.org/2000/svg';

const $ = (id) => document.getElementById(id);

const here = {
  after: [], // keys of the pages before this one
  chosen: null, // name of a proxy
  events: FEW, // how many are shown
  fields: {}, // texts of the form
  heard: 0, // time of the last answer
  histories: new Map(), // by proxy
  last: null, // the status before this one
  peers: new Map(), // the peers of the last view, for rates
  skip: 0,
  sort: 'queued_messages',
  status: null,
  tab: 'peers',
  wants: 0, // the number of the latest view that was asked for
};

// ---- Elements

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function draw(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Characters that a reader would not see, or that change how others look.
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?! )\p{Zs}/u;

// A text of a peer, with visible escapes.
function visible(text) {
  const span = make('span', { class: 'mono' });
  let plain = '';
  const flush = () => {
    if (plain) span.append(plain);
    plain = '';
  };
  for (const letter of text) {
    if (!HIDDEN.test(letter)) {
      plain += letter;
      continue;
    }
    flush();
    const code = letter.codePointAt(0).toString(16).padStart(4, '0');
    span.append(make('span', { class: 'esc' }, '\\u{' + code + '}'));
  }
  flush();
  return span;
}

// Bytes of a peer: a text, or hexadecimal digits under the key with the suffix "_hex".
function bytes(object, key) {
  if (object[key] != null) return visible(object[key]);
  const span = make('span', { class: 'mono' });
  let escaped = '';
  for (const digits of (object[key + '_hex'] || '').match(/../g) || []) {
    const code = parseInt(digits, 16);
    if (code < 32 || code > 126) {
      escaped += '\\x' + digits;
      continue;
    }
    if (escaped) span.append(make('span', { class: 'esc' }, escaped));
    escaped = '';
    span.append(String.fromCharCode(code));
  }
  if (escaped) span.append(make('span', { class: 'esc' }, escaped));
  span.normalize();
  return span;
}

// ---- Numbers

const whole = new Intl.NumberFormat('en');

function count(value) {
  if (value < 100000) return whole.format(Math.round(value));
  if (value < 1e6) return (value / 1e3).toFixed(0) + 'k';
  for (const [unit, size] of [['M', 1e6], ['G', 1e9]]) {
    if (value < 1000 * size) return (value / size).toFixed(value < 10 * size ? 2 : 1) + unit;
  }
  return (value / 1e12).toFixed(1) + 'T';
}

function rate(value) {
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

function size(value) {
  if (value < 1024) return value + ' B';
  for (const [unit, power] of [['KiB', 1], ['MiB', 2], ['GiB', 3]]) {
    const scaled = value / 1024 ** power;
    if (scaled < 1024 || power === 3) return scaled.toFixed(scaled < 10 ? 1 : 0) + ' ' + unit;
  }
}

function time(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return s + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min ' + (s % 60) + ' s';
  if (s < 86400) return Math.floor(s / 3600) + ' h ' + (Math.floor(s / 60) % 60) + ' min';
  return Math.floor(s / 86400) + ' d ' + (Math.floor(s / 3600) % 24) + ' h';
}

const sum = (object) => Object.values(object || {}).reduce((a, b) => a + b, 0);

// ---- The server

class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function ask(path, method) {
  const headers = {};
  const token = sessionStorage.getItem('token');
  if (token) headers.Authorization = 'Bearer ' + token;
  if (method) headers['X-Zmqd'] = '1';
  const signal = AbortSignal.timeout(ANSWER_MS);
  const answer = await fetch('/api/v1/' + path, { headers, method: method || 'GET', signal });
  const text = await answer.text();
  let body;
  try {
    body = JSON.parse(text);
  } catch (_) {
    throw new Refused(answer.status, text.trim() || 'the answer is incomplete');
  }
  if (!answer.ok) throw new Refused(answer.status, body.error);
  here.heard = Date.now();
  return body;
}

const of = (proxy, what) => 'proxies/' + encodeURIComponent(proxy) + '/' + what;

function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== '' && value != null);
  return '?' + new URLSearchParams(set);
}

// ---- Header

function vital(name, ...content) {
  return make('div', {}, make('dt', {}, name), ...content.map((it) => make('dd', {}, it)));
}

function meter(share) {
  const bar = make('i', {});
  bar.style.width = Math.min(100, 100 * share) + '%';
  return make('div', { class: share > 0.9 ? 'meter high' : 'meter' }, bar);
}

function showHeader() {
  const { status, last } = here;
  $('version').textContent = status.version;
  document.title = 'zmqd – ' + worst(status.proxies);
  const elapsed = last ? status.uptime_seconds - last.uptime_seconds : 0;
  const load = elapsed > 0 ? (status.busy_seconds - last.busy_seconds) / elapsed : 0;
  const limit = status.memory_limit;
  const memory = size(status.memory_in_use) + (limit ? ' of ' + size(limit) : '');
  const { reload } = status;
  let file = make('span', {}, 'as started');
  if (reload) {
    const when = ' ' + time(reload.seconds_ago) + ' ago';
    file = reload.error
      ? make('span', { class: 'bad', title: reload.error }, 'rejected' + when)
      : make('span', { title: reload.changes.join('\n') }, 'reloaded' + when);
    if (reload.needs_restart && reload.needs_restart.length) {
      file.append(make('span', { class: 'warning', title: reload.needs_restart.join(', ') },
        ', restart needed'));
    }
  }
  $('vitals').replaceChildren(
    vital('Up', time(status.uptime_seconds)),
    vital('Configuration', file),
    vital('Memory', memory, limit ? meter(status.memory_in_use / limit) : null),
    vital('Loop', (100 * Math.min(1, load)).toFixed(load < 0.1 ? 1 : 0) + '%', meter(load)),
  );
  if (status.stop !== 'running') {
    $('vitals').prepend(vital('Broker', make('span', { class: 'warning' }, status.stop)));
  }
}

function worst(proxies) {
  for (const level of ['bad', 'warning']) {
    const found = proxies.find((proxy) => proxy.level === level);
    if (found) return found.proxy + ': ' + found.state;
  }
  return proxies.length + (proxies.length === 1 ? ' proxy' : ' proxies');
}

// ---- Cards

const side = (proxy, name) => proxy.sockets.find((socket) => socket.side === name);

function rateOf(proxy, name, key) {
  const { status, last } = here;
  const before = last && last.proxies.find((other) => other.proxy === proxy.proxy);
  const elapsed = last ? status.uptime_seconds - last.uptime_seconds : 0;
  const [now, then] = [side(proxy, name), before && side(before, name)];
  if (!now || !then || elapsed <= 0) return 0;
  return Math.max(0, now[key] - then[key]) / elapsed;
}

const dropsOf = (proxy) => proxy.sockets.reduce((all, it) => all + sum(it.dropped), 0);

function dropRate(proxy) {
  const { status, last } = here;
  const before = last && last.proxies.find((other) => other.proxy === proxy.proxy);
  const elapsed = last ? status.uptime_seconds - last.uptime_seconds : 0;
  return before && elapsed > 0 ? Math.max(0, dropsOf(proxy) - dropsOf(before)) / elapsed : 0;
}

function end(socket) {
  if (!socket) return make('div', {});
  const endpoints = [...socket.bind, ...socket.connect.map((it) => '→ ' + it)];
  const more = endpoints.length > 1 ? ' +' + (endpoints.length - 1) : '';
  const peers = socket.peers === 1 ? '1 peer' : whole.format(socket.peers) + ' peers';
  return make('div', { title: endpoints.join('\n') },
    make('b', {}, socket.socket), ' ' + peers,
    make('br'), make('span', { class: 'mono' }, (endpoints[0] || '') + more));
}

function figure(name, value, unit, kind, key) {
  return make('div', {},
    make('dt', {}, key ? make('i', { class: 'key ' + key }) : null, name),
    make('dd', { class: kind }, value, unit ? make('small', {}, unit) : null));
}

const TWO_WAYS = new Set(['ROUTER', 'DEALER', 'REP', 'REQ', 'PAIR']);

function goesBack(proxy) {
  const [front, back] = [side(proxy, 'frontend'), side(proxy, 'backend')];
  return front && back && TWO_WAYS.has(front.socket) && TWO_WAYS.has(back.socket);
}

function card(proxy) {
  const [front, back] = [side(proxy, 'frontend'), side(proxy, 'backend')];
  const forth = rateOf(proxy, 'frontend', 'messages_received');
  const second = goesBack(proxy)
    ? ['back', rateOf(proxy, 'backend', 'messages_received')]
    : ['out', rateOf(proxy, 'backend', 'messages_sent')];
  const queued = proxy.sockets.reduce((all, it) => all + it.queued_messages, 0);
  const [dropped, dropping] = [dropsOf(proxy), dropRate(proxy)];
  const lost = dropping > 0
    ? figure('dropped', rate(dropping), '/s', 'bad')
    : figure('dropped', count(dropped), '', dropped ? 'bad' : 'zero');
  const reasons = proxy.sockets.flatMap((it) => Object.entries(it.dropped)
    .map(([reason, number]) => it.side + ': ' + whole.format(number) + ' ' + reason));
  lost.title = reasons.join('\n');
  const button = make('button', {
    'aria-pressed': String(proxy.proxy === here.chosen),
    class: 'card', 'data-proxy': proxy.proxy, type: 'button',
    onclick: () => choose(proxy.proxy),
  },
    make('div', { class: 'head' },
      make('span', { class: 'name' }, proxy.proxy),
      make('span', { class: 'muted' }, proxy.kind),
      make('span', { class: 'state ' + proxy.level, title: proxy.state },
        make('span', { class: 'dot ' + proxy.level, 'aria-hidden': 'true' }), proxy.state)),
    make('div', { class: 'ends' }, end(front),
      make('span', { class: 'to', 'aria-hidden': 'true' }, goesBack(proxy) ? '⇄' : '→'), end(back)),
    make('dl', { class: 'figures' },
      figure('in', rate(forth), '/s', forth ? '' : 'zero', 'forth'),
      figure(second[0], rate(second[1]), '/s', second[1] ? '' : 'zero', 'back'),
      figure('queued', count(queued), '', queued ? '' : 'zero'), lost, ...kept(proxy)),
    graph(proxy));
  return button;
}

// The last values of a forwarder, and the messages that it can send again.
function kept(proxy) {
  const all = [['values', proxy.cache, 'values'], ['replay', proxy.replay, 'messages']];
  return all.filter(([, it]) => it).map(([title, it, key]) => {
    const shown = figure(title, count(it[key]), '', it[key] ? '' : 'zero');
    shown.title = size(it.bytes);
    return shown;
  });
}

function graph(proxy) {
  const history = here.histories.get(proxy.proxy);
  const box = make('div', { class: 'graph' });
  const forth = history ? history.from_frontend : [];
  if (forth.length < 2) {
    box.append(make('span', { class: 'wait' }, history ? 'the first minute is being measured' : ''));
    return box;
  }
  const back = goesBack(proxy) ? history.from_backend : history.to_backend;
  const span = Math.min(HOUR_S, Math.max(60, forth.length * history.step_seconds));
  const slots = span / history.step_seconds;
  const most = nice(Math.max(1, ...forth, ...back));
  const drops = Math.max(1, ...history.dropped);
  const [width, height] = [600, 70];
  const x = (index) => (width * (slots - forth.length + index + 0.5)) / slots;
  const y = (value) => height - 1 - ((height - 3) * value) / most;
  const svg = draw('svg', { 'aria-hidden': 'true', preserveAspectRatio: 'none', viewBox: '0 0 600 70' });
  for (const share of [0, 0.5, 1]) {
    svg.append(draw('path', { class: 'grid', d: 'M0 ' + y(most * share) + 'H600' }));
  }
  const line = (values) => {
    let [path, pen] = ['', 'M'];
    values.forEach((value, index) => {
      if (value == null) pen = 'M';
      else {
        path += pen + x(index).toFixed(1) + ' ' + y(value).toFixed(1);
        pen = 'L';
      }
    });
    return path;
  };
  const path = line(forth);
  if (!forth.includes(null)) {
    const area = path + 'V' + (height - 1) + 'H' + x(0).toFixed(1) + 'Z';
    svg.append(draw('path', { class: 'area', d: area }));
  }
  svg.append(draw('path', { class: 'back', d: line(back) }), draw('path', { class: 'forth', d: path }));
  let bars = '';
  const bar = Math.max(1.5, width / slots);
  history.dropped.forEach((value, index) => {
    if (value > 0) {
      const tall = 4 + (14 * value) / drops;
      bars += 'M' + (x(index) - bar / 2).toFixed(1) + ' ' + (height - 1) +
        'v-' + tall.toFixed(1) + 'h' + bar.toFixed(1) + 'v' + tall.toFixed(1) + 'z';
    }
  });
  svg.append(draw('path', { class: 'drops', d: bars }));
  const from = '−' + (span >= HOUR_S ? '60 min' : time(span));
  box.append(svg, make('span', { class: 'most' }, count(most) + '/s'),
    make('span', { class: 'from' }, from), make('span', { class: 'now' }, 'now'));
  return box;
}

// The next number of the form 1, 2 or 5 times a power of ten.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((it) => it * power).find((it) => it >= value);
}

function showCards() {
  const { proxies } = here.status;
  const focused = document.activeElement && document.activeElement.dataset.proxy;
  if (!proxies.some((proxy) => proxy.proxy === here.chosen)) {
    choose(proxies.length ? proxies[0].proxy : null);
  }
  $('cards').replaceChildren(...proxies.map(card));
  if (focused) {
    const again = [...$('cards').children].find((it) => it.dataset.proxy === focused);
    if (again) again.focus({ preventScroll: true });
  }
}

// ---- Watches

const TROUBLE = { late: 'warning', acting: 'warning', paused: 'warning', down: 'bad', failed: 'bad' };

function showWatches() {
  const { watches } = here.status;
  $('watches').hidden = !watches.length;
  const state = (it) => make('span', { class: TROUBLE[it.state] }, visible(it.state));
  $('services').replaceChildren(table([
    { title: 'Watch', cell: (it) => visible(it.name) },
    { title: 'State', cell: state },
    { title: 'Sign', cell: (it) => visible(it.sign) },
    { title: 'Actions', num: true, cell: (it) => count(it.actions) },
    { title: 'Reason', cell: (it) => visible(it.reason) },
  ], watches, ''));
}

// ---- Events

const SOUNDS = { error: 'bad', warn: 'warning' };

// The time of day of something that was so many seconds ago.
function clock(ago) {
  const at = new Date(Date.now() - 1000 * ago);
  return make('span', { title: at.toLocaleString() }, at.toTimeString().slice(0, 8));
}

async function showEvents() {
  const { events, total } = await ask('events' + query({ limit: here.events }));
  $('events').hidden = !total;
  $('more').parentNode.hidden = total <= here.events || here.events > FEW;
  $('happened').replaceChildren(table([
    { title: 'Time', cell: (it) => clock(it.seconds_ago) },
    { title: 'Proxy', cell: (it) => visible([it.proxy, it.side].filter(Boolean).join(' ')) },
    { title: 'Event', kind: 'text', cell: (it) => make('span', { class: SOUNDS[it.level] }, visible(it.text)) },
  ], events, ''));
}

// ---- The chosen proxy

const TABS = {
  peers: ['Peers', showPeers],
  closed: ['Closed', showClosed],
  topics: ['Subscriptions', showTopics],
  sample: ['Messages', showSample],
  config: ['Configuration', showConfig],
};

function choose(proxy) {
  here.chosen = proxy;
  $('detail').hidden = proxy == null;
  for (const it of $('cards').children) {
    it.setAttribute('aria-pressed', String(it.dataset.proxy === proxy));
  }
  begin();
}

function begin() {
  Object.assign(here, { after: [], skip: 0, fields: {} });
  here.peers.clear();
  $('chosen').textContent = here.chosen || '';
  const proxy = here.status && here.status.proxies.find((it) => it.proxy === here.chosen);
  const hasTopics = proxy && proxy.sockets.some((it) => it.side !== 'capture' && /^X?PUB$/.test(it.socket));
  if (!hasTopics && here.tab === 'topics') here.tab = 'peers';
  const tabs = Object.entries(TABS).filter(([tab]) => tab !== 'topics' || hasTopics);
  $('tabs').replaceChildren(...tabs.map(([tab, [title]]) => make('button', {
    'aria-selected': String(tab === here.tab), role: 'tab', type: 'button',
    onclick: () => {
      here.tab = tab;
      begin();
    },
  }, title)));
  const tools = {
    peers: [field('filter', 'Address, identity or user'), choice(), act()],
    closed: [field('filter', 'Address or identity'), choice()],
    topics: [field('prefix', 'Topics that begin with'), field('topic', 'Which peers get the topic')],
  }[here.tab] || [];
  $('tools').replaceChildren(...tools);
  $('tools').hidden = !tools.length;
  $('view').replaceChildren();
  $('pager').replaceChildren();
  refresh();
}

function act() {
  if (!here.status || !here.status.commands) return '';
  const proxy = here.status.proxies.find((it) => it.proxy === here.chosen);
  const command = proxy && proxy.paused ? 'resume' : 'pause';
  const title = command[0].toUpperCase() + command.slice(1);
  return make('button', {
    class: 'right', type: 'button',
    onclick: async () => {
      const done = await confirm(title + ' the proxy ' + here.chosen + '?', title,
        () => ask(of(here.chosen, command), 'POST'));
      if (done) await tick();
      begin();
    },
  }, title);
}

function field(name, hint) {
  return make('input', {
    'aria-label': hint, class: 'grow', name, placeholder: hint, spellcheck: 'false', type: 'search',
    oninput: (event) => {
      here.fields[name] = event.target.value;
      Object.assign(here, { after: [], skip: 0 });
      refresh();
    },
  });
}

function choice() {
  const options = [['', 'both sides'], ['frontend', 'frontend'], ['backend', 'backend']];
  return make('select', {
    'aria-label': 'Side',
    onchange: (event) => {
      here.fields.side = event.target.value;
      Object.assign(here, { after: [], skip: 0 });
      refresh();
    },
  }, ...options.map(([value, text]) => make('option', { value }, text)));
}

// Asks for the view again; an answer to an older question is left.
async function refresh() {
  if (!here.chosen || !here.status) return;
  here.wants += 1;
  const wanted = here.wants;
  try {
    await TABS[here.tab][1](() => wanted === here.wants);
  } catch (error) {
    if (wanted === here.wants && error instanceof Refused && error.status !== 401) {
      put(make('p', { class: 'note' }, error.message));
    }
  }
}

function put(...content) {
  $('view').replaceChildren(...content);
  $('pager').replaceChildren();
}

function table(columns, rows, none) {
  if (!rows.length) return make('p', { class: 'note' }, none);
  const head = columns.map(({ title, sort, num }) => {
    const label = sort
      ? make('button', {
        type: 'button',
        onclick: () => {
          Object.assign(here, { sort, skip: 0 });
          refresh();
        },
      }, title)
      : title;
    return make('th', {
      'aria-sort': sort && sort === here.sort ? 'descending' : null, class: num && 'num', scope: 'col',
    }, label);
  });
  const body = rows.map((row) => make('tr', {}, ...columns.map(({ title, num, kind, cell }) => {
    const value = cell(row);
    const classes = [num && 'num', kind, value === '0' && 'zero'].filter(Boolean).join(' ');
    return make('td', { class: classes || null, 'data-label': title }, value);
  })));
  return make('table', {}, make('thead', {}, make('tr', {}, ...head)), make('tbody', {}, ...body));
}

function pages(total, shown, next) {
  const first = here.skip + 1;
  const back = make('button', {
    disabled: !here.skip, type: 'button',
    onclick: () => {
      here.skip = Math.max(0, here.skip - PAGE);
      here.after.pop();
      refresh();
    },
  }, 'Back');
  const forth = make('button', {
    disabled: !next, type: 'button',
    onclick: () => {
      here.skip += PAGE;
      here.after.push(next);
      refresh();
    },
  }, 'Next');
  const of = total == null ? '' : ' of ' + whole.format(total);
  const range = shown ? whole.format(first) + '–' + whole.format(here.skip + shown) + of : '';
  const buttons = here.skip || next ? [back, forth] : [];
  $('pager').replaceChildren(...(shown || here.skip ? [range, ...buttons] : []));
}

function name(peer) {
  const box = make('span', {}, visible(peer.address || ''));
  if (peer.user) box.append(' ', make('b', {}, visible(peer.user)));
  if (peer.identity || peer.identity_hex) {
    box.append(' ', make('span', { class: 'muted' }, bytes(peer, 'identity')));
  }
  return box;
}

function perSecond(key, before) {
  return (peer) => {
    const known = before.get(peer.id);
    const elapsed = known ? peer.age_seconds - known.age_seconds : 0;
    return elapsed > 0 ? rate(Math.max(0, peer[key] - known[key]) / elapsed) : '–';
  };
}

function stateOf(peer) {
  if (peer.phase !== 'ready') return make('span', { class: 'muted' }, 'handshake');
  if (peer.parked) return make('span', { class: 'warning' }, 'waits');
  return peer.socket || '';
}

function peerColumns(before) {
  return [
    { title: 'Peer', kind: 'who', cell: name },
    { title: 'Side', cell: (peer) => peer.side },
    { title: 'Socket', cell: stateOf },
    { title: 'In/s', num: true, cell: perSecond('messages_received', before) },
    { title: 'Out/s', num: true, cell: perSecond('messages_sent', before) },
    { title: 'Received', num: true, sort: 'messages_received', cell: (it) => count(it.messages_received) },
    { title: 'Sent', num: true, sort: 'messages_sent', cell: (it) => count(it.messages_sent) },
    { title: 'Queued', num: true, sort: 'queued_messages', cell: (it) => count(it.queued_messages) },
    { title: 'Dropped', num: true, sort: 'dropped', cell: drops },
    { title: 'Topics', num: true, sort: 'subscriptions', cell: (it) => count(it.subscriptions) },
    { title: 'Age', num: true, sort: 'age_seconds', cell: (it) => time(it.age_seconds) },
  ];
}

function drops(peer) {
  const lost = sum(peer.dropped);
  if (!lost) return '0';
  const title = Object.entries(peer.dropped).map(([why, times]) => times + ' ' + why).join('\n');
  return make('span', { class: 'bad', title }, count(lost));
}

async function showPeers(isWanted) {
  const { filter, side } = here.fields;
  const wanted = { filter, side, sort: here.sort, skip: here.skip, limit: PAGE };
  const { peers, total } = await ask(of(here.chosen, 'peers') + query(wanted));
  if (!isWanted()) return;
  const columns = peerColumns(here.peers);
  if (here.status.commands) columns.push({ title: '', kind: 'act', cell: kick });
  put(table(columns, peers, filter ? 'No peer has this in its name.' : nowhere(side)));
  pages(total, peers.length, here.skip + peers.length < total);
  here.peers = new Map(peers.map((peer) => [peer.id, peer]));
}

// Why the list is empty, and where peers connect.
function nowhere(only) {
  const proxy = here.status.proxies.find((it) => it.proxy === here.chosen);
  const places = proxy ? proxy.sockets.filter((it) => it.side === only || !only && /end$/.test(it.side)) : [];
  const listens = places.filter((it) => it.bind.length);
  const where = listens.map((it) => it.side + ' ' + it.bind.join(', ')).join('; ');
  return 'No peer is connected.' + (where ? ' Peers connect to: ' + where + '.' : '');
}

function kick(peer) {
  return make('button', {
    class: 'kick', type: 'button', 'aria-label': 'Kick ' + peer.address,
    onclick: async () => {
      const question = make('span', {}, 'Close the connection of ', name(peer),
        '? The peer may connect again.');
      const done = await confirm(question, 'Kick',
        () => ask(of(here.chosen, 'kick') + query({ id: peer.id }), 'POST'));
      if (done) refresh();
    },
  }, 'kick');
}

async function showClosed(isWanted) {
  const { filter, side } = here.fields;
  const wanted = { filter, side, after: here.after.at(-1), limit: PAGE };
  const { closed, total } = await ask(of(here.chosen, 'closed') + query(wanted));
  if (!isWanted()) return;
  put(table([
    { title: 'Peer', kind: 'who', cell: name },
    { title: 'Side', cell: (peer) => peer.side },
    { title: 'Closed', num: true, cell: (peer) => time(peer.seconds_ago) + ' ago' },
    { title: 'After', num: true, cell: (peer) => time(peer.lasted_seconds) },
    { title: 'Reason', cell: (peer) => make('span', {}, peer.reason) },
    { title: 'Detail', kind: 'muted', cell: (peer) => visible(peer.detail) },
  ], closed, 'No peer has left.'));
  const last = closed.at(-1);
  pages(total, closed.length, here.skip + closed.length < total && last.id);
}

async function showTopics(isWanted) {
  const { prefix, topic } = here.fields;
  if (topic) {
    const { peers, total } = await ask(of(here.chosen, 'who') + query({ topic, limit: PAGE }));
    if (!isWanted()) return;
    put(table(peerColumns(here.peers), peers, 'No peer gets a message with this topic.'));
    here.peers = new Map(peers.map((peer) => [peer.id, peer]));
    pages(total, peers.length, false);
    return;
  }
  const wanted = { prefix, limit: PAGE };
  const after = here.after.at(-1);
  if (after) wanted[after[0]] = after[1];
  const { subscriptions, more } = await ask(of(here.chosen, 'subscriptions') + query(wanted));
  if (!isWanted()) return;
  const title = (it) => (it.topic === '' ? make('i', { class: 'muted' }, 'every topic') : bytes(it, 'topic'));
  put(table([
    { title: 'Topic', kind: 'who', cell: title },
    { title: 'Peers', num: true, cell: (it) => count(it.peers) },
  ], subscriptions, 'No peer has subscribed to such a topic.'));
  const last = subscriptions.at(-1);
  const next = last && (last.topic != null ? ['after', last.topic] : ['after_hex', last.topic_hex]);
  pages(null, subscriptions.length, more && next);
}

async function showSample(isWanted) {
  if (!here.status.samples) {
    put(make('p', { class: 'note' }, 'Messages are shown with http_token_file, unless http_samples is false.'));
    return;
  }
  const ready = () => ask(of(here.chosen, 'sample'));
  if (!sessionStorage.getItem('token')) {
    const show = async () => {
      if (await confirm('Show the beginnings of messages?', 'Show', ready)) refresh();
    };
    put(make('p', { class: 'note' }, 'This needs the token of the server. ',
      make('button', { class: 'kick', type: 'button', onclick: show }, 'Show messages')));
    return;
  }
  const { messages } = await ready();
  if (!isWanted()) return;
  put(table([
    { title: 'Time', cell: (it) => clock(it.seconds_ago) },
    { title: 'From', kind: 'who', cell: name },
    { title: 'Side', cell: (it) => it.side },
    { title: 'Bytes', num: true, cell: (it) => count(it.size) },
    { title: 'Frames', kind: 'text', cell: frames },
  ], messages, 'No message has passed since the page began to ask.'));
}

// The beginnings of the first frames of a message.
function frames(message) {
  const parts = message.frames.map((frame) => {
    const shown = make('span', { class: 'frame', title: size(frame.size) }, bytes(frame, 'body'));
    const kept = frame.body_hex ? frame.body_hex.length / 2 : new Blob([frame.body]).size;
    if (kept < frame.size) shown.append('…');
    return shown;
  });
  return make('div', {}, ...parts, message.more ? '…' : null);
}

async function showConfig(isWanted) {
  const config = await ask('config');
  if (!isWanted()) return;
  const proxy = config.proxies.find((it) => it.proxy === here.chosen) || {};
  const rows = [['kind', proxy.kind], ['record', proxy.record]];
  for (const name of ['frontend', 'backend', 'capture', 'control', 'replay']) {
    const socket = proxy[name];
    if (!socket) continue;
    rows.push([name, socket.socket + (socket.mechanism === 'NULL' ? '' : ', ' + socket.mechanism)],
      [name + '.bind', socket.bind.join(', ')], [name + '.connect', socket.connect.join(', ')],
      [name + ' public key', socket.public_key]);
    for (const [key, value] of Object.entries(socket.options)) rows.push([name + '.' + key, value]);
  }
  rows.push(['memory_limit', config.memory_limit ? size(config.memory_limit) : 'none'],
    ['drain_timeout', config.drain_timeout_ms + ' ms'], ['http', config.http],
    ['roles', config.roles.join(', ')]);
  const shown = rows.filter(([, value]) => value);
  put(make('dl', { class: 'conf' }, ...shown.flatMap(([key, value]) => [
    make('dt', {}, key), make('dd', {}, visible(String(value)))])));
}

// ---- Questions to the user

// Runs a command after a confirmation, with a token if there is none yet.
function confirm(question, title, run) {
  const dialog = $('ask');
  $('question').replaceChildren(question);
  $('yes').textContent = title;
  $('problem').textContent = '';
  $('token').value = '';
  $('secret').hidden = Boolean(sessionStorage.getItem('token'));
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    $('yes').onclick = async (event) => {
      event.preventDefault();
      if ($('token').value) sessionStorage.setItem('token', $('token').value);
      try {
        await run();
        dialog.close('yes');
      } catch (error) {
        if (error.status === 401) {
          sessionStorage.removeItem('token');
          $('secret').hidden = false;
        }
        $('problem').textContent = error.status === 401 ? 'This is not the token.' : error.message;
      }
    };
    dialog.onclose = () => resolve(dialog.returnValue === 'yes');
  });
}

// ---- The loop

function showAlert(error) {
  const silent = (Date.now() - here.heard) / 1000;
  const reason = error && error.status ? ': ' + error.message : '';
  const since = here.status ? ' for ' + time(silent) + '; these figures are old' : '';
  $('alert').textContent = error ? 'No answer from the broker' + since + reason : '';
  $('alert').hidden = !error;
  document.body.classList.toggle('stale', Boolean(error && here.status));
  $('dot').className = 'dot ' + (error ? 'bad' : 'ok');
}

async function readHistory() {
  for (const { proxy } of here.status.proxies) {
    const known = here.histories.get(proxy);
    const due = known ? known.read + 1000 * known.step_seconds : 0;
    if (Date.now() < due) continue;
    const news = await ask(of(proxy, 'history') + query({ since: known ? known.tick : 0 }));
    const isSame = known && news.tick >= known.tick;
    for (const key of ['from_frontend', 'to_backend', 'from_backend', 'to_frontend', 'dropped', 'queued']) {
      news[key] = [...(isSame ? known[key] : []), ...news[key]].slice(-HOUR_S / news.step_seconds);
    }
    here.histories.set(proxy, { ...news, read: Date.now() });
  }
}

async function tick() {
  const status = await ask('status');
  if (here.status && status.uptime_seconds < here.status.uptime_seconds) {
    // Another process: nothing from before is comparable.
    here.status = null;
    here.histories.clear();
    here.peers.clear();
  }
  [here.last, here.status] = [here.status, status];
  await readHistory();
  showHeader();
  showCards();
  showWatches();
  await refresh();
  await showEvents();
}

async function live() {
  if (!document.hidden) {
    try {
      await tick();
      showAlert(null);
    } catch (error) {
      if (error.status === 401) await confirm('This server needs its token.', 'Go on', tick);
      else showAlert(error);
    }
  }
  setTimeout(live, EVERY_MS);
}

document.addEventListener('submit', (event) => {
  if (event.target === $('tools')) event.preventDefault();
});
$('more').addEventListener('click', () => {
  here.events = 100;
  showEvents();
});
here.heard = Date.now();
live();
