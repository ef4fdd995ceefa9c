import jakarta.mail.BodyPart;
import jakarta.mail.internet.ContentType;
import jakarta.mail.internet.MimeBodyPart;
import jakarta.mail.internet.MimeMultipart;
import jakarta.mail.util.ByteArrayDataSource;
import java.util.LinkedHashMap;
import java.util.Map;

/** A message of multipart/related, taken apart by Jakarta Mail: the root, and the other parts by Content-ID. */
final class Attachments {
    final byte[] root;
    final Map<String, byte[]> parts = new LinkedHashMap<>();

    Attachments(String contentType, byte[] body) throws Exception {
        ContentType outer = new ContentType(contentType);
        if (!outer.match("multipart/*")) {
            root = body;
            return;
        }
        MimeMultipart multipart = new MimeMultipart(new ByteArrayDataSource(body, contentType));
        String start = outer.getParameter("start");
        BodyPart first = start == null ? multipart.getBodyPart(0) : multipart.getBodyPart(start);
        root = first.getInputStream().readAllBytes();
        if (!multipart.isComplete()) {
            throw new IllegalArgumentException("the closing delimiter is missing");
        }
        for (int number = 0; number < multipart.getCount(); number++) {
            MimeBodyPart part = (MimeBodyPart) multipart.getBodyPart(number);
            if (part != first && parts.put(bare(part.getContentID()), part.getInputStream().readAllBytes()) != null) {
                throw new IllegalArgumentException("two parts have the Content-ID " + part.getContentID());
            }
        }
    }

    private static String bare(String contentId) {
        return contentId.replaceAll("^<|>$", "");
    }
}
