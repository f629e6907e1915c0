// Push as the review found it, less socket.io: the trainer's location goes from
// this process's memory to the student's WebSocket. No live store, no rate, no
// check but the token; a second process would not know of the first one's
// students. Updates come by the same POST as everywhere, so that one generator
// drives all.
'use strict';

const http = require('node:http');
const express = require('express');
const jwt = require('jsonwebtoken');
const { WebSocketServer } = require('ws');

const secret = process.env.JWT_SECRET;
const [host, port] = process.env.LISTEN.split(':');
const sockets = new Map(); // session → the student's sockets

const app = express();
app.get('/readyz', (req, res) => res.json({ success: true }));
app.use('/api/v1/admin', express.json({ limit: '16kb' }), (req, res, next) => {
  try {
    req.user = jwt.verify((req.headers.authorization || '').slice('Bearer '.length), secret, { algorithms: ['HS256'] });
  } catch {
    return res.status(401).json({ success: false });
  }
  return next();
});
app.post('/api/v1/admin/sessions', (req, res) => res.status(201).json({ success: true }));
app.post('/api/v1/admin/sessions/:sessionId/start-journey', (req, res) => res.status(201).json({ success: true }));
app.post('/api/v1/admin/location-tracking/journey/updates', (req, res) => {
  const { sessionId, latitude, longitude, accuracy, speed, heading } = req.body;
  const timestamp = new Date().toISOString();
  const location = { sessionId, latitude, longitude, accuracy, speed, heading, timestamp };
  for (const socket of sockets.get(sessionId) || []) socket.send(JSON.stringify(location));
  res.status(201).json({ success: true, data: { sessionId, timestamp } });
});

const server = http.createServer(app);
new WebSocketServer({ server }).on('connection', (socket, req) => {
  const query = new URL(req.url, 'http://doorstep').searchParams;
  try {
    jwt.verify(query.get('token'), secret, { algorithms: ['HS256'] });
  } catch {
    return socket.close();
  }
  const session = query.get('sessionId');
  if (!sockets.has(session)) sockets.set(session, new Set());
  sockets.get(session).add(socket);
  return socket.on('close', () => sockets.get(session).delete(socket));
});
server.listen(Number(port), host);
