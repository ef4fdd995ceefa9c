import java.nio.charset.StandardCharsets;
import java.security.Key;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.CertificateException;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Date;
import java.util.HexFormat;
import java.util.List;
import javax.crypto.Cipher;
import javax.security.auth.callback.Callback;
import org.apache.ws.security.WSConstants;
import org.apache.ws.security.WSDataRef;
import org.apache.ws.security.WSDocInfo;
import org.apache.ws.security.WSPasswordCallback;
import org.apache.ws.security.WSSConfig;
import org.apache.ws.security.WSSecurityEngine;
import org.apache.ws.security.WSSecurityEngineResult;
import org.apache.ws.security.WSSecurityException;
import org.apache.ws.security.components.crypto.Merlin;
import org.apache.ws.security.handler.RequestData;
import org.apache.ws.security.processor.Processor;
import org.apache.ws.security.validate.SignatureTrustValidator;
import org.apache.xml.security.encryption.XMLCipher;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.Node;

/**
 * WSS4J with the rules of the WS-I Basic Security Profile on, and Santuario under it. The first field is the question:
 * `check` (document, certificate, session key, the moment at which the certificate is judged; a Timestamp is judged by
 * the machine's clock) or `open` (an EncryptedAssertion, the relying party's private key, the certificate that signs
 * assertions).
 */
final class Wss4jOracle {
    private static final String SESSION_KEY = "session-key";

    private Wss4jOracle() {}

    public static void main(String[] arguments) throws Exception {
        WSSConfig.init();
        org.apache.xml.security.Init.init();
        Oracle.serve(fields -> "open".equals(new String(fields[0], StandardCharsets.US_ASCII)) ? open(fields) : check(fields));
    }

    private static List<String> check(byte[][] fields) throws Exception {
        Document document = Oracle.parse(fields[1]);
        X509Certificate trusted = Oracle.certificate(fields[2]);
        byte[] sessionKey = fields[3];
        Instant now = Instant.parse(new String(fields[4], StandardCharsets.US_ASCII));
        Element security = Oracle.only(document, Oracle.WSSE, "Security");
        nameSessionKey(security);

        RequestData data = new RequestData();
        data.setWssConfig(configuration(now));
        data.setSigCrypto(trusting(trusted));
        data.setDecCrypto(data.getSigCrypto());
        data.setCallbackHandler(callbacks -> {
            for (Callback one : callbacks) {
                WSPasswordCallback asked = (WSPasswordCallback) one;
                if (SESSION_KEY.equals(asked.getIdentifier().replace("#", "")) && sessionKey.length > 0) {
                    asked.setKey(sessionKey);
                }
            }
        });
        WSSecurityEngine engine = new WSSecurityEngine();
        engine.setWssConfig(data.getWssConfig());
        List<String> found = new ArrayList<>();
        for (WSSecurityEngineResult result : engine.processSecurityHeader(security, data)) {
            found.addAll(0, described(result));
        }
        return found;
    }

    /**
     * WSS4J knows no signature without KeyInfo. Nothing signs the endorsing signature's own content, so it may be given
     * one that leads to the callback; what was signed stays as it was.
     */
    private static void nameSessionKey(Element security) {
        for (Element signature : Oracle.children(security, Oracle.DS, "Signature")) {
            if (Oracle.children(signature, Oracle.DS, "KeyInfo").isEmpty()) {
                Document document = security.getOwnerDocument();
                Node keyInfo = signature.appendChild(document.createElementNS(Oracle.DS, "ds:KeyInfo"));
                Node reference = keyInfo.appendChild(document.createElementNS(Oracle.WSSE, "wsse:SecurityTokenReference"));
                Element place = document.createElementNS(Oracle.WSSE, "wsse:Reference");
                place.setAttribute("URI", "#" + SESSION_KEY);
                place.setAttribute("ValueType", WSConstants.WSS_SAML2_KI_VALUE_TYPE);
                reference.appendChild(place);
            }
        }
    }

    private static WSSConfig configuration(Instant now) {
        WSSConfig configuration = WSSConfig.getNewInstance();
        configuration.setWsiBSPCompliant(true);
        configuration.setTimeStampStrict(true);
        // Only the relying party could open it.
        configuration.setProcessor(WSSecurityEngine.ENCRYPTED_ASSERTION, new Processor() {
            @Override
            public List<WSSecurityEngineResult> handleToken(Element element, RequestData data, WSDocInfo info) {
                return List.of();
            }
        });
        configuration.setValidator(WSSecurityEngine.SIGNATURE, new SignatureTrustValidator() {
            @Override
            protected void validateCertificates(X509Certificate[] certificates) throws WSSecurityException {
                try {
                    for (X509Certificate one : certificates) {
                        one.checkValidity(Date.from(now));
                    }
                } catch (CertificateException error) {
                    throw new WSSecurityException(WSSecurityException.FAILED_CHECK, "invalidCert", null, error);
                }
            }
        });
        return configuration;
    }

    private static Merlin trusting(X509Certificate certificate) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        store.setCertificateEntry("trusted", certificate);
        Merlin crypto = new Merlin();
        crypto.setKeyStore(store);
        return crypto;
    }

    private static List<String> described(WSSecurityEngineResult result) {
        List<String> lines = new ArrayList<>();
        int action = (Integer) result.get(WSSecurityEngineResult.TAG_ACTION);
        if (action == WSConstants.SIGN) {
            lines.add("signature " + result.get(WSSecurityEngineResult.TAG_SIGNATURE_METHOD));
            for (Object one : (List<?>) result.get(WSSecurityEngineResult.TAG_DATA_REF_URIS)) {
                Element reached = ((WSDataRef) one).getProtectedElement();
                lines.add("covers " + Oracle.name(reached) + " " + Oracle.id(reached));
            }
        } else if (action == WSConstants.TS) {
            lines.add("timestamp");
        }
        return lines;
    }

    /** Santuario opens the token, the JDK checks its signature: the lines are its attributes and the proof key. */
    private static List<String> open(byte[][] fields) throws Exception {
        Document document = Oracle.parse(fields[1]);
        PrivateKey own = KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(fields[2]));
        Element data = Oracle.only(document, Oracle.XENC, "EncryptedData");
        Element method = Oracle.children(data, Oracle.XENC, "EncryptionMethod").get(0);
        XMLCipher cipher = XMLCipher.getInstance();
        cipher.init(XMLCipher.DECRYPT_MODE, unwrapped(document, own, method.getAttribute("Algorithm")));
        cipher.doFinal(document, data);

        Element assertion = Oracle.only(document, Oracle.SAML2, "Assertion");
        assertion.setIdAttribute("ID", true);
        List<Element> signatures = Oracle.children(assertion, Oracle.DS, "Signature");
        if (signatures.size() != 1) {
            throw new IllegalArgumentException(signatures.size() + " signatures in the assertion");
        }
        List<String> found = new ArrayList<>(
            JdkOracle.covered(signatures.get(0), Oracle.certificate(fields[3]).getPublicKey()));
        for (Element statement : Oracle.children(assertion, Oracle.SAML2, "AttributeStatement")) {
            for (Element attribute : Oracle.children(statement, Oracle.SAML2, "Attribute")) {
                found.add("claim " + attribute.getAttribute("Name") + " " + attribute.getTextContent());
            }
        }
        Element wrapped = Oracle.only(document, Oracle.XENC, "CipherValue");
        Cipher oaep = Cipher.getInstance("RSA/ECB/OAEPWithSHA1AndMGF1Padding");
        oaep.init(Cipher.DECRYPT_MODE, own);
        byte[] proofKey = oaep.doFinal(Base64.getMimeDecoder().decode(wrapped.getTextContent()));
        found.add("proof-key " + HexFormat.of().formatHex(proofKey));
        return found;
    }

    private static Key unwrapped(Document document, PrivateKey own, String algorithm) throws Exception {
        XMLCipher cipher = XMLCipher.getInstance();
        cipher.init(XMLCipher.UNWRAP_MODE, own);
        return cipher.decryptKey(cipher.loadEncryptedKey(document, Oracle.only(document, Oracle.XENC, "EncryptedKey")), algorithm);
    }
}
