package awstest

import "crypto/rand"

// Secret makes a secret, or gives it another value. It is found by its name and by its ARN.
func (s *Server) Secret(name, value string) (arn string) {
	arn = "arn:aws:secretsmanager:" + Region + ":" + account + ":secret:" + name
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name], s.secrets[arn] = value, value
	return arn
}

type getSecretValue struct{ SecretId string }

func (s *Server) getSecretValue(in getSecretValue) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.secrets[in.SecretId]
	if !ok {
		return nil, refuse("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	return map[string]any{
		"Name": in.SecretId, "SecretString": value, "VersionId": rand.Text(), "VersionStages": []string{"AWSCURRENT"},
		"CreatedDate": float64(now().UnixMilli()) / 1000,
	}, nil
}
