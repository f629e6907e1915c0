// A few journeys for those who know k6: each trainer sends a fix every 5 s, each
// student long-polls. For more than some hundred of them take bench/load; a
// virtual user costs k6 a fifth of a megabyte, and its latencies do not count
// what was due while it waited.
//
//   go install go.k6.io/k6@v1.8.1
//   DOORSTEP_JWT_SECRET=$SECRET make run
//   k6 run -e SECRET=$SECRET -e JOURNEYS=50 -e DURATION=60s bench/k6/journey.js
//
// With more than one gateway before you, BASE is the load balancer's.
import { check, sleep } from 'k6';
import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';

const base = `${__ENV.BASE || 'http://127.0.0.1:8080'}/api/v1`;
const journeys = Number(__ENV.JOURNEYS || 10);
const duration = __ENV.DURATION || '30s';

const fixToEye = new Trend('fix_to_eye', true);
const fixes = new Counter('fixes_seen');

export const options = {
  scenarios: {
    trainers: { executor: 'constant-vus', exec: 'trainer', vus: journeys, duration, gracefulStop: '5s' },
    students: { executor: 'constant-vus', exec: 'student', vus: journeys, duration, gracefulStop: '30s' },
  },
  thresholds: {
    checks: ['rate>0.99'],
    'http_req_duration{call:update}': ['p(99)<100'],
  },
};

// setup books and starts every journey.
export function setup() {
  const admin = token(uuid(), 'admin');
  return Array.from({ length: journeys }, () => {
    const [session, trainer, student] = [uuid(), uuid(), uuid()];
    const j = { session, trainer: token(trainer, 'trainer'), student: token(student, 'student') };
    const booking = { sessionId: session, trainerId: trainer, studentId: student, studentHome: { latitude: 52, longitude: 5 } };
    const booked = http.post(`${base}/admin/sessions`, JSON.stringify(booking), as(admin, 'book'));
    const started = http.post(`${base}/admin/sessions/${session}/start-journey`, null, as(j.trainer, 'start'));
    check(booked, { 'booked 201': (r) => r.status === 201 });
    check(started, { 'started 201': (r) => r.status === 201 });
    return j;
  });
}

// trainer sends one fix, moving away at 11 m/s, about 40 km/h.
export function trainer(all) {
  const j = all[(exec.vu.idInTest - 1) % journeys];
  const fix = {
    sessionId: j.session, latitude: 52.01 + 5e-4 * exec.vu.iterationInScenario, longitude: 5, accuracy: 8.5, speed: 40,
    recordedAt: new Date().toISOString(), // the student reads it back
  };
  const res = http.post(`${base}/admin/location-tracking/journey/updates`, JSON.stringify(fix), as(j.trainer, 'update'));
  check(res, { 'update 201': (r) => r.status === 201 });
  sleep(Math.max(0, 5 + 0.3 * Math.random() - res.timings.duration / 1000));
}

const seen = {}; // this virtual user's ETag

// student waits once for something new.
export function student(all) {
  const j = all[(exec.vu.idInTest - 1) % journeys];
  const params = as(j.student, 'live');
  if (seen.etag) params.headers['If-None-Match'] = seen.etag;
  const res = http.get(`${base}/admin/location-tracking/journey/live?sessionId=${j.session}&wait=${seen.etag ? 25 : 0}`, params);
  if (!check(res, { 'live 200 or 304': (r) => r.status === 200 || r.status === 304 })) {
    sleep(1);
    return;
  }
  const location = res.status === 200 && res.json('data.location');
  if (location && seen.etag) {
    fixToEye.add(Date.now() - Date.parse(location.timestamp));
    fixes.add(1);
  }
  seen.etag = res.headers.Etag;
}

function as(bearer, call) {
  return {
    headers: { Authorization: `Bearer ${bearer}`, 'Content-Type': 'application/json' },
    tags: { call, name: call },
    responseCallback: http.expectedStatuses(200, 201, 304),
  };
}

function token(sub, role) {
  const now = Math.floor(Date.now() / 1000);
  const text = [{ alg: 'HS256', typ: 'JWT' }, { sub, role, iat: now, exp: now + 86400 }]
    .map((part) => encoding.b64encode(JSON.stringify(part), 'rawurl')).join('.');
  return `${text}.${crypto.hmac('sha256', __ENV.SECRET, text, 'base64rawurl')}`;
}

function uuid() {
  const bytes = new Uint8Array(crypto.randomBytes(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}
